package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"golang.org/x/sync/errgroup"
)

const patience = 5 * time.Second // of last_reset and last_close

// request holds the arguments of all commands.
type request struct {
	ID          json.RawMessage `json:"id"`
	Cmd         string          `json:"cmd"`
	Node        int             `json:"node"`
	Addr        string          `json:"addr"`
	Peer        string          `json:"peer"`
	Target      string          `json:"target"`
	Key         string          `json:"key"`
	Value       []byte          `json:"value"` // base64 in JSON
	Count       int             `json:"count"`
	Size        int             `json:"size"`
	Chunk       int             `json:"chunk"`
	Concurrency int             `json:"concurrency"`
	Seconds     float64         `json:"seconds"`
	Code        uint32          `json:"code"`
	Sequence    uint64          `json:"sequence"`
	Prefix      string          `json:"prefix"`
	Quorum      *int            `json:"quorum"`
}

type (
	result  map[string]any
	command func(context.Context, *request) (result, error)
)

func (n *node) commands() map[string]command {
	return map[string]command{
		"connect": n.connect, "disconnect": n.disconnect, "peers": n.peers, "ping": n.ping, "identify": n.identify,
		"echo": n.echo, "streams": n.streams, "reset": n.reset, "send_reset": n.sendReset, "last_reset": n.lastReset,
		"close": n.closeConn, "last_close": n.lastClose, "stats": n.stats, "bench_bulk": n.benchBulk,
		"bench_streams": n.benchStreams, "bench_ping": n.benchPing, "bench_dial": n.benchDial,
		"find_node": n.findNode, "find_peer": n.findPeer, "bootstrap": n.bootstrap, "put": n.put, "get": n.get,
		"provide": n.provide, "find_providers": n.findProviders,
		"put_at": n.putAt, "get_at": n.getAt, "ipns_record": n.ipnsRecord, "public_key": n.publicKey,
		"bench_find_node": n.benchFindNode, "dht_join": n.dhtJoin, "bench_put": n.benchPut, "bench_get": n.benchGet,
	}
}

// open opens a stream on a connection there is; reads and writes end with the command.
func (n *node) open(ctx context.Context, id string, proto protocol.ID) (network.Stream, error) {
	who, err := peer.Decode(id)
	if err != nil {
		return nil, err
	}
	s, err := n.host.NewStream(network.WithNoDial(ctx, "the contract: connect first"), who, proto)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(deadline)
	}
	return s, nil
}

// parseAddr parses an address with a peer id and forgets that dialling the peer ever failed.
func (n *node) parseAddr(addr string) (*peer.AddrInfo, error) {
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return nil, err
	}
	if sw, ok := n.host.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(info.ID)
	}
	return info, nil
}

func (n *node) connect(ctx context.Context, req *request) (result, error) {
	info, err := n.parseAddr(req.Addr)
	if err != nil {
		return nil, err
	}
	if err := n.host.Connect(ctx, *info); err != nil {
		return nil, err
	}
	conns := n.host.Network().ConnsToPeer(info.ID)
	if len(conns) == 0 {
		return nil, errors.New("connected, and closed again at once")
	}
	state := conns[0].ConnState()
	told := result{"peer_id": info.ID.String(), "security": nil, "muxer": nil} // QUIC has neither
	if state.Security != "" {
		told["security"], told["muxer"] = state.Security, state.StreamMultiplexer
	}
	return told, nil
}

func (n *node) disconnect(_ context.Context, req *request) (result, error) {
	who, err := peer.Decode(req.Peer)
	if err != nil {
		return nil, err
	}
	return nil, n.host.Network().ClosePeer(who)
}

func (n *node) peers(context.Context, *request) (result, error) {
	ids := []string{}
	for _, id := range n.host.Network().Peers() {
		ids = append(ids, id.String())
	}
	return result{"peers": ids}, nil
}

// roundTrips pings over one stream, one after the other.
func (n *node) roundTrips(ctx context.Context, req *request) ([]time.Duration, error) {
	who, err := peer.Decode(req.Peer)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(network.WithNoDial(ctx, "the contract: connect first"))
	defer cancel()
	results := ping.Ping(ctx, n.host, who)
	rtts := make([]time.Duration, 0, req.Count)
	for len(rtts) < req.Count {
		each, more := <-results
		if !more {
			return nil, errors.New("the ping stream ended")
		}
		if each.Error != nil {
			return nil, each.Error
		}
		rtts = append(rtts, each.RTT)
	}
	return rtts, nil
}

func (n *node) ping(ctx context.Context, req *request) (result, error) {
	rtts, err := n.roundTrips(ctx, req)
	if err != nil {
		return nil, err
	}
	ms := make([]float64, len(rtts))
	for i, rtt := range rtts {
		ms[i] = float64(rtt) / float64(time.Millisecond)
	}
	return result{"rtt_ms": ms}, nil
}

func (n *node) identify(ctx context.Context, req *request) (result, error) {
	who, err := peer.Decode(req.Peer)
	if err != nil {
		return nil, err
	}
	if n.host.Network().Connectedness(who) != network.Connected {
		return nil, network.ErrNoConn
	}
	all, err := n.identified.wait(ctx, func(seen map[peer.ID]event.EvtPeerIdentificationCompleted) bool {
		each, ok := seen[who]
		return ok && !each.Conn.IsClosed() // not of a connection before this one
	}, false)
	if err != nil {
		return nil, err
	}
	seen := all[who]
	listening := []string{}
	for _, addr := range seen.ListenAddrs {
		listening = append(listening, addr.String())
	}
	var observed, keyType any
	if seen.ObservedAddr != nil {
		observed = seen.ObservedAddr.String()
	}
	if key := n.host.Peerstore().PubKey(who); key != nil {
		keyType = strings.ToLower(key.Type().String())
	}
	return result{
		"agent": seen.AgentVersion, "protocol_version": seen.ProtocolVersion, "protocols": seen.Protocols,
		"listen_addrs": listening, "observed_addr": observed, "key_type": keyType,
	}, nil
}

// writeAll writes data in chunks, the last one shorter.
func writeAll(w io.Writer, data []byte, chunk int) error {
	if chunk <= 0 {
		return errors.New("chunk must be positive")
	}
	for len(data) > 0 {
		size := min(chunk, len(data))
		if _, err := w.Write(data[:size]); err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}

func (n *node) echo(ctx context.Context, req *request) (result, error) {
	s, err := n.open(ctx, req.Peer, protoEcho)
	if err != nil {
		return nil, err
	}
	data := make([]byte, req.Size)
	_, _ = rand.Read(data)
	var back []byte
	var tasks errgroup.Group
	tasks.Go(func() error {
		if err := writeAll(s, data, req.Chunk); err != nil {
			_ = s.Reset() // ends the reader too
			return err
		}
		return s.CloseWrite()
	})
	tasks.Go(func() (err error) {
		back, err = io.ReadAll(s)
		return err
	})
	if err := tasks.Wait(); err != nil {
		_ = s.Reset()
		return nil, err
	}
	return result{"bytes": len(back), "ok": bytes.Equal(back, data)}, s.Close()
}

// exchange has size bytes echoed.
func exchange(s network.Stream, size int) error {
	data := make([]byte, size)
	_, _ = rand.Read(data)
	back := make([]byte, size)
	var tasks errgroup.Group
	tasks.Go(func() error { return writeAll(s, data, max(size, 1)) })
	if _, err := io.ReadFull(s, back); err != nil {
		_ = s.Reset()
		return errors.Join(err, tasks.Wait())
	}
	if err := tasks.Wait(); err != nil {
		return err
	}
	if !bytes.Equal(back, data) {
		return errors.New("an echo differs from what was sent")
	}
	return nil
}

func (n *node) streams(ctx context.Context, req *request) (result, error) {
	opened := make([]network.Stream, max(req.Count, 0))
	defer func() {
		for _, s := range opened {
			if s != nil {
				_ = s.Reset() // of no effect on one that has ended
			}
		}
	}()
	// All at once: a library may acknowledge a stream only when its first byte has come.
	var exchanges errgroup.Group
	for i := range opened {
		exchanges.Go(func() (err error) {
			if opened[i], err = n.open(ctx, req.Peer, protoEcho); err != nil {
				return err
			}
			return exchange(opened[i], req.Size)
		})
	}
	if err := exchanges.Wait(); err != nil {
		return nil, err
	}
	var ends errgroup.Group
	for _, s := range opened {
		ends.Go(func() error {
			if err := s.CloseWrite(); err != nil {
				return err
			}
			rest, err := io.Copy(io.Discard, s)
			if err == nil && rest > 0 {
				err = fmt.Errorf("%d bytes more than were sent", rest)
			}
			return errors.Join(err, s.Close())
		})
	}
	if err := ends.Wait(); err != nil {
		return nil, err
	}
	return result{"opened": len(opened)}, nil
}

func (n *node) reset(ctx context.Context, req *request) (result, error) {
	s, err := n.open(ctx, req.Peer, protoReset)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	if _, err := s.Write(binary.BigEndian.AppendUint32(nil, req.Code)); err != nil {
		return nil, err
	}
	reset, code, err := endOf(s)
	if err != nil {
		return nil, err
	}
	return result{"reset": reset, "code": code}, nil
}

func (n *node) sendReset(ctx context.Context, req *request) (result, error) {
	s, err := n.open(ctx, req.Peer, protoAwaitReset)
	if err != nil {
		return nil, err
	}
	if err := exchange(s, 1); err != nil {
		return nil, err
	}
	return nil, s.ResetWithError(network.StreamErrorCode(req.Code))
}

func (n *node) lastReset(ctx context.Context, _ *request) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	end, err := n.resets.wait(ctx, anything, false)
	if err != nil {
		return nil, fmt.Errorf("no stream of %s was served: %w", protoAwaitReset, err)
	}
	select {
	case <-end.done:
		return result{"reset": end.reset, "code": end.code}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("the stream has not ended: %w", ctx.Err())
	}
}

func (n *node) closeConn(_ context.Context, req *request) (result, error) {
	who, err := peer.Decode(req.Peer)
	if err != nil {
		return nil, err
	}
	conns := n.host.Network().ConnsToPeer(who)
	if len(conns) == 0 {
		return nil, network.ErrNoConn
	}
	for _, c := range conns {
		err = errors.Join(err, c.CloseWithError(network.ConnErrorCode(req.Code)))
	}
	return nil, err
}

func (n *node) lastClose(ctx context.Context, _ *request) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	end, err := n.closes.wait(ctx, anything, true)
	if err != nil {
		return nil, fmt.Errorf("no connection was closed by the remote: %w", err)
	}
	return result{"code": end.code}, nil
}
