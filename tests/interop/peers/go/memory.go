package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-yamux/v5"
)

// latest holds the newest value of its kind and lets a command wait for one.
type latest[T any] struct {
	mu      sync.Mutex
	value   T
	present bool
	changed chan struct{} // closed and replaced with each change
}

func newLatest[T any]() *latest[T] {
	return &latest[T]{changed: make(chan struct{})}
}

// update sets the value to what change makes of it and of whether there is one.
func (l *latest[T]) update(change func(T, bool) (T, bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.value, l.present = change(l.value, l.present)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *latest[T]) set(value T) { l.update(func(T, bool) (T, bool) { return value, true }) }

func (l *latest[T]) clear() {
	l.update(func(old T, _ bool) (T, bool) { return old, false })
}

// wait returns the value as soon as there is one that suits; with take set it is then forgotten.
func (l *latest[T]) wait(ctx context.Context, suits func(T) bool, take bool) (T, error) {
	for {
		l.mu.Lock()
		value, changed := l.value, l.changed
		if l.present && suits(value) {
			l.present = !take
			l.mu.Unlock()
			return value, nil
		}
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	}
}

func anything[T any](T) bool { return true }

// streamEnd tells how a stream ended, once done is closed.
type streamEnd struct {
	done  chan struct{}
	reset bool
	code  *uint32
}

// endOf reads a stream to its end and tells whether that was a reset, and its code where one came along.
func endOf(s io.Reader) (reset bool, code *uint32, err error) {
	buf := make([]byte, 4096)
	for {
		_, err = s.Read(buf)
		var fault *network.StreamError
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			return false, nil, nil
		case errors.As(err, &fault):
			told := uint32(fault.ErrorCode)
			return true, &told, nil
		case errors.Is(err, network.ErrReset):
			return true, nil, nil
		default:
			return false, nil, err
		}
	}
}

// connEnd is a close by the remote; code is nil where no go-away came.
type connEnd struct{ code *uint32 }

// closedByRemote tells how a connection that is over was closed, and whether the remote did it. Only the error of a further
// attempt to use it knows.
func closedByRemote(c network.Conn) (connEnd, bool) {
	_, err := c.NewStream(context.Background())
	var fault *network.ConnError
	switch {
	case errors.As(err, &fault):
		code := uint32(fault.ErrorCode)
		return connEnd{&code}, fault.Remote
	case errors.Is(err, yamux.ErrSessionShutdown):
		return connEnd{}, false
	default:
		return connEnd{}, true
	}
}

// watch keeps closes and identified up to date.
func (n *node) watch() error {
	n.host.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(network.Network, network.Conn) { n.closes.clear() },
		DisconnectedF: func(_ network.Network, c network.Conn) {
			if end, remote := closedByRemote(c); remote {
				n.closes.set(end)
			}
		},
	})
	events, err := n.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return err
	}
	go func() {
		for each := range events.Out() {
			seen := each.(event.EvtPeerIdentificationCompleted)
			n.identified.update(func(old map[peer.ID]event.EvtPeerIdentificationCompleted, _ bool) (
				map[peer.ID]event.EvtPeerIdentificationCompleted, bool,
			) {
				fresh := maps.Clone(old) // a waiter may be reading the old one
				if fresh == nil {
					fresh = map[peer.ID]event.EvtPeerIdentificationCompleted{}
				}
				fresh[seen.Peer] = seen
				return fresh, true
			})
		}
	}()
	return nil
}
