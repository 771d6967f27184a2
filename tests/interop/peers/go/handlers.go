package main

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	protoEcho       protocol.ID = "/echo/1.0.0"
	protoSink       protocol.ID = "/sink/1.0.0"
	protoReset      protocol.ID = "/reset/1.0.0"
	protoAwaitReset protocol.ID = "/await-reset/1.0.0"
)

// As large as a yamux frame of this library gets.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// serve registers the test protocols.
func (n *node) serve() {
	for proto, handler := range map[protocol.ID]func(network.Stream) error{
		protoEcho: echo, protoSink: sink, protoReset: reset, protoAwaitReset: n.awaitReset,
	} {
		n.host.SetStreamHandler(proto, func(s network.Stream) {
			if err := handler(s); err != nil {
				_ = s.Reset()
			}
		})
	}
}

func echo(s network.Stream) error {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	if _, err := io.CopyBuffer(s, s, buf[:]); err != nil {
		return err
	}
	return s.Close()
}

func sink(s network.Stream) error {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	var count uint64
	for {
		got, err := s.Read(buf[:])
		count += uint64(got)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if _, err := s.Write(binary.BigEndian.AppendUint64(nil, count)); err != nil {
		return err
	}
	return s.Close()
}

func reset(s network.Stream) error {
	var code [4]byte
	if _, err := io.ReadFull(s, code[:]); err != nil {
		return err
	}
	return s.ResetWithError(network.StreamErrorCode(binary.BigEndian.Uint32(code[:])))
}

func (n *node) awaitReset(s network.Stream) error {
	end := &streamEnd{done: make(chan struct{})}
	n.resets.set(end)
	defer close(end.done)
	var first [1]byte
	if _, err := io.ReadFull(s, first[:]); err != nil {
		return err
	}
	if _, err := s.Write(first[:]); err != nil {
		return err
	}
	var err error
	if end.reset, end.code, err = endOf(s); err != nil {
		return err
	}
	return s.Close()
}
