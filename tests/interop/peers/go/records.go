package main

import (
	"context"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	ipnsLifetime = time.Hour
	ipnsTTL      = time.Minute
)

// recordKey turns the text of a key into the key: in /pk/ID and /ipns/ID the peer id stands for its bytes.
func recordKey(text string) (string, error) {
	for _, namespace := range []string{"/pk/", "/ipns/"} {
		if id, found := strings.CutPrefix(text, namespace); found {
			who, err := peer.Decode(id)
			return namespace + string(who), err
		}
	}
	return text, nil
}

// putAt is one PUT_VALUE request; a refusal is an error.
func (n *node) putAt(ctx context.Context, req *request) (result, error) {
	who, err := peer.Decode(req.Peer)
	if err != nil {
		return nil, err
	}
	key, err := recordKey(req.Key)
	if err != nil {
		return nil, err
	}
	messenger, err := n.messenger()
	if err != nil {
		return nil, err
	}
	return nil, messenger.PutValue(ctx, who, record.MakePutRecord(key, req.Value))
}

// getAt is one GET_VALUE request; null if the peer has no such value.
func (n *node) getAt(ctx context.Context, req *request) (result, error) {
	who, err := peer.Decode(req.Peer)
	if err != nil {
		return nil, err
	}
	key, err := recordKey(req.Key)
	if err != nil {
		return nil, err
	}
	messenger, err := n.messenger()
	if err != nil {
		return nil, err
	}
	found, _, err := messenger.GetValue(ctx, who, key)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return result{"value": nil}, nil
	}
	return result{"value": found.GetValue()}, nil
}

// ipnsRecord signs an IPNS record of this node's name.
func (n *node) ipnsRecord(_ context.Context, req *request) (result, error) {
	target, err := path.NewPath(string(req.Value))
	if err != nil {
		return nil, err
	}
	key := n.host.Peerstore().PrivKey(n.host.ID())
	made, err := ipns.NewRecord(key, target, req.Sequence, time.Now().Add(ipnsLifetime), ipnsTTL)
	if err != nil {
		return nil, err
	}
	encoded, err := ipns.MarshalRecord(made)
	if err != nil {
		return nil, err
	}
	return result{"key": "/ipns/" + n.host.ID().String(), "value": encoded}, nil
}

// publicKey is the record of this node's own key.
func (n *node) publicKey(context.Context, *request) (result, error) {
	encoded, err := crypto.MarshalPublicKey(n.host.Peerstore().PubKey(n.host.ID()))
	return result{"key": "/pk/" + n.host.ID().String(), "value": encoded}, err
}
