package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multihash"
)

const (
	settlePatience  = 3 * time.Second
	settleLookEvery = 10 * time.Millisecond
)

var errNoDHT = errors.New("started with --dht off")

// blank takes every value; the last writer wins.
type blank struct{}

func (blank) Validate(string, []byte) error        { return nil }
func (blank) Select(string, [][]byte) (int, error) { return 0, nil }

func newDHT(h host.Host, opts *options, store datastore.Batching) (*dht.IpfsDHT, error) {
	mode := dht.ModeServer
	if opts.dht == "client" {
		mode = dht.ModeClient
	}
	return dht.New(h,
		dht.Mode(mode),
		dht.Datastore(store),
		dht.ProtocolPrefix(protocol.ID(opts.dhtPrefix)),
		dht.Validator(record.NamespacedValidator{
			"v": blank{}, "pk": record.PublicKeyValidator{}, "ipns": ipns.Validator{KeyBook: h.Peerstore()},
		}),
		dht.BootstrapPeers(),
	)
}

// messenger sends single requests.
func (n *node) messenger() (*dhtpb.ProtocolMessenger, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	return dhtpb.NewProtocolMessenger(n.dht.MessageSender())
}

func (n *node) findNode(ctx context.Context, req *request) (result, error) {
	who, err := peer.Decode(req.Peer)
	if err != nil {
		return nil, err
	}
	target, err := peer.Decode(req.Target)
	if err != nil {
		return nil, err
	}
	messenger, err := n.messenger()
	if err != nil {
		return nil, err
	}
	closer, err := messenger.GetClosestPeers(ctx, who, target)
	if err != nil {
		return nil, err
	}
	infos := []result{}
	for _, info := range closer {
		infos = append(infos, described(*info))
	}
	return result{"closer": infos}, nil
}

func (n *node) findPeer(ctx context.Context, req *request) (result, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	target, err := peer.Decode(req.Target)
	if err != nil {
		return nil, err
	}
	info, err := n.dht.FindPeer(ctx, target)
	if err != nil {
		return nil, err
	}
	return described(info), nil
}

// bootstrap has the connected peers entered in the routing table, then refreshes it.
func (n *node) bootstrap(ctx context.Context, _ *request) (result, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	if err := n.dht.Bootstrap(ctx); err != nil {
		return nil, err
	}
	n.settle(ctx)
	var err error
	select {
	case err = <-n.dht.ForceRefresh():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if n.dht.RoutingTable().Size() == 0 {
		return nil, errors.Join(errors.New("the routing table is still empty"), err)
	}
	if err != nil { // of some query of several: the table is there
		fmt.Fprintln(os.Stderr, "refreshing the routing table:", err)
	}
	return nil, nil
}

// settle waits, though not for ever, until each connected DHT server has been checked and is in the routing table: the
// library does that in the background and tells nobody.
func (n *node) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	look := time.NewTicker(settleLookEvery)
	defer look.Stop()
	for n.serversMissing() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

func (n *node) serversMissing() bool {
	for _, who := range n.host.Network().Peers() {
		served, err := n.host.Peerstore().SupportsProtocols(who, n.dhtProtocol)
		if err == nil && len(served) > 0 && n.dht.RoutingTable().Find(who) == "" {
			return true
		}
	}
	return false
}

func (n *node) put(ctx context.Context, req *request) (result, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	key, err := recordKey(req.Key)
	if err != nil {
		return nil, err
	}
	return nil, n.dht.PutValue(ctx, key, req.Value)
}

func (n *node) get(ctx context.Context, req *request) (result, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	key, err := recordKey(req.Key)
	if err != nil {
		return nil, err
	}
	value, err := n.dht.GetValue(ctx, key)
	if err != nil {
		return nil, err
	}
	return result{"value": value}, nil // JSON has bytes as base64
}

// contentKey parses the text of a CID or a multihash in hex.
func contentKey(text string) (cid.Cid, error) {
	if raw, err := hex.DecodeString(text); err == nil {
		if hash, err := multihash.Cast(raw); err == nil {
			return cid.NewCidV1(cid.Raw, hash), nil
		}
	}
	return cid.Decode(text)
}

func (n *node) provide(ctx context.Context, req *request) (result, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	key, err := contentKey(req.Key)
	if err != nil {
		return nil, err
	}
	return nil, n.dht.Provide(ctx, key, true)
}

func (n *node) findProviders(ctx context.Context, req *request) (result, error) {
	if n.dht == nil {
		return nil, errNoDHT
	}
	key, err := contentKey(req.Key)
	if err != nil {
		return nil, err
	}
	found, err := n.dht.FindProviders(ctx, key)
	if err != nil {
		return nil, err
	}
	infos := []result{}
	for _, info := range found {
		infos = append(infos, described(info))
	}
	return result{"providers": infos}, nil
}

func described(info peer.AddrInfo) result {
	addrs := []string{}
	for _, addr := range info.Addrs {
		addrs = append(addrs, addr.String())
	}
	return result{"id": info.ID.String(), "addrs": addrs}
}
