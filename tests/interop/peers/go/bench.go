package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
)

// How many writes between two looks at the clock.
const writesPerLook = 16

func span(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func (n *node) benchBulk(ctx context.Context, req *request) (result, error) {
	s, err := n.open(ctx, req.Peer, protoSink)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	data := make([]byte, req.Chunk)
	_, _ = rand.Read(data)
	start := time.Now()
	for end := start.Add(span(req.Seconds)); time.Now().Before(end); {
		for range writesPerLook {
			if _, err := s.Write(data); err != nil {
				return nil, err
			}
		}
	}
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	var count [8]byte
	if _, err := io.ReadFull(s, count[:]); err != nil {
		return nil, err
	}
	return result{"bytes": binary.BigEndian.Uint64(count[:]), "seconds": time.Since(start).Seconds()}, nil
}

// oneByte opens a stream, has one byte echoed and closes.
func (n *node) oneByte(ctx context.Context, id string) error {
	s, err := n.open(ctx, id, protoEcho)
	if err != nil {
		return err
	}
	data := [1]byte{'x'}
	if _, err := s.Write(data[:]); err != nil {
		_ = s.Reset()
		return err
	}
	if _, err := io.ReadFull(s, data[:]); err != nil {
		_ = s.Reset()
		return err
	}
	return s.Close()
}

func (n *node) benchStreams(ctx context.Context, req *request) (result, error) {
	var count atomic.Int64
	var workers errgroup.Group
	start := time.Now()
	end := start.Add(span(req.Seconds))
	for range req.Concurrency {
		workers.Go(func() error {
			for time.Now().Before(end) {
				if err := n.oneByte(ctx, req.Peer); err != nil {
					return err
				}
				count.Add(1)
			}
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		return nil, err
	}
	return result{"count": count.Load(), "seconds": time.Since(start).Seconds()}, nil
}

func (n *node) benchPing(ctx context.Context, req *request) (result, error) {
	rtts, err := n.roundTrips(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(rtts) == 0 {
		return nil, errors.New("count must be positive")
	}
	slices.Sort(rtts)
	us := func(rtt time.Duration) float64 { return float64(rtt) / float64(time.Microsecond) }
	return result{"p50_us": us(rtts[len(rtts)/2]), "p99_us": us(rtts[len(rtts)*99/100])}, nil
}

func (n *node) benchDial(ctx context.Context, req *request) (result, error) {
	info, err := n.parseAddr(req.Addr)
	if err != nil {
		return nil, err
	}
	if n.host.Network().Connectedness(info.ID) == network.Connected {
		return nil, errors.New("connected already: a dial would find that connection")
	}
	n.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
	start := time.Now()
	for range req.Count {
		c, err := n.host.Network().DialPeer(ctx, info.ID)
		if err != nil {
			return nil, err
		}
		if err := c.Close(); err != nil {
			return nil, err
		}
	}
	return result{"count": req.Count, "seconds": time.Since(start).Seconds()}, nil
}

// How many different keys are asked for.
const keysAsked = 256

// benchFindNode keeps so many streams busy with FIND_NODE requests that were encoded beforehand; answers are not parsed.
func (n *node) benchFindNode(ctx context.Context, req *request) (result, error) {
	requests := make([][]byte, keysAsked)
	for i := range requests {
		key := make([]byte, 34)
		_, _ = rand.Read(key)
		key[0], key[1] = 0x12, 0x20 // a SHA-256 multihash, as a peer id is
		message, err := proto.Marshal(dhtpb.NewMessage(dhtpb.Message_FIND_NODE, key, 0))
		if err != nil {
			return nil, err
		}
		requests[i] = append(binary.AppendUvarint(nil, uint64(len(message))), message...)
	}
	var count atomic.Int64
	var size atomic.Int64
	var tasks errgroup.Group
	start := time.Now()
	end := start.Add(span(req.Seconds))
	for worker := range req.Concurrency {
		tasks.Go(func() error {
			s, err := n.open(ctx, req.Peer, n.dhtProtocol)
			if err != nil {
				return err
			}
			defer s.Reset()
			answers := bufio.NewReader(s)
			for i := worker; time.Now().Before(end); i++ {
				if _, err := s.Write(requests[i%keysAsked]); err != nil {
					return err
				}
				length, err := binary.ReadUvarint(answers)
				if err != nil {
					return err
				}
				if _, err := answers.Discard(int(length)); err != nil {
					return err
				}
				count.Add(1)
				size.Add(int64(length))
			}
			return nil
		})
	}
	if err := tasks.Wait(); err != nil {
		return nil, err
	}
	return result{"count": count.Load(), "seconds": time.Since(start).Seconds(), "bytes": size.Load()}, nil
}
