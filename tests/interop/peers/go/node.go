package main

import (
	"crypto/rand"
	cryptotls "crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

const rsaBits = 2048

// node is the host, its DHT (nil when off) and what it remembers for the commands.
type node struct {
	all         *[]*node // of this process
	host        host.Host
	dht         *dht.IpfsDHT
	store       datastore.Batching // of the DHT
	dhtProtocol protocol.ID
	resets      *latest[*streamEnd]
	closes      *latest[connEnd]
	identified  *latest[map[peer.ID]event.EvtPeerIdentificationCompleted]
}

func newKey(keyType string) (crypto.PrivKey, error) {
	kinds := map[string]int{
		"ed25519": crypto.Ed25519, "secp256k1": crypto.Secp256k1, "ecdsa": crypto.ECDSA, "rsa": crypto.RSA,
	}
	key, _, err := crypto.GenerateKeyPairWithReader(kinds[keyType], rsaBits, rand.Reader)
	return key, err
}

func readPSK(path string) (pnet.PSK, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return pnet.DecodeV1PSK(file)
}

// overWeb is WebSocket, with the certificates of wss that were given.
func overWeb(opts *options) (libp2p.Option, error) {
	var settings []any
	if opts.webCert != "" {
		cert, err := cryptotls.LoadX509KeyPair(opts.webCert, opts.webCert)
		if err != nil {
			return nil, err
		}
		settings = append(settings, websocket.WithTLSConfig(&cryptotls.Config{Certificates: []cryptotls.Certificate{cert}}))
	}
	if opts.webTrust != "" {
		pem, err := os.ReadFile(opts.webTrust)
		if err != nil {
			return nil, err
		}
		trusted := x509.NewCertPool()
		trusted.AppendCertsFromPEM(pem)
		settings = append(settings, websocket.WithTLSClientConfig(&cryptotls.Config{RootCAs: trusted}))
	}
	return libp2p.Transport(websocket.New, settings...), nil
}

// newNode builds a host that talks TCP, WebSocket and QUIC, limits nothing and offers no service beside the test protocols.
func newNode(opts *options, all *[]*node) (*node, error) {
	key, err := newKey(opts.keyType)
	if err != nil {
		return nil, err
	}
	secure := libp2p.Security(noise.ID, noise.New)
	if opts.security == "tls" {
		secure = libp2p.Security(tls.ID, tls.New)
	}
	quicOrPrivate := libp2p.Transport(libp2pquic.NewTransport) // which has no private networks
	if opts.psk != "" {
		psk, err := readPSK(opts.psk)
		if err != nil {
			return nil, err
		}
		quicOrPrivate = libp2p.PrivateNetwork(psk)
	}
	web, err := overWeb(opts)
	if err != nil {
		return nil, err
	}
	listen := libp2p.NoListenAddrs
	if len(opts.listen) > 0 {
		listen = libp2p.ListenAddrStrings(opts.listen...)
	}
	h, err := libp2p.New(
		libp2p.Identity(key),
		libp2p.UserAgent("go-libp2p/"+libraryVersion()),
		listen,
		// A dial from the listening port would meet TIME_WAIT when one peer is dialled again and again.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		web,
		secure,
		quicOrPrivate,
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.ConnectionManager(connmgr.NullConnMgr{}),
		libp2p.DisableRelay(),
		libp2p.ForceReachabilityPublic(), // settled, so that autonat has nothing to ask
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.DisableMetrics(),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot start the host: %w", err)
	}
	n := &node{
		all:         all,
		host:        h,
		store:       sync.MutexWrap(datastore.NewMapDatastore()),
		dhtProtocol: protocol.ID(opts.dhtPrefix) + "/kad/1.0.0",
		resets:      newLatest[*streamEnd](),
		closes:      newLatest[connEnd](),
		identified:  newLatest[map[peer.ID]event.EvtPeerIdentificationCompleted](),
	}
	if err := n.watch(); err != nil {
		return nil, err
	}
	n.serve()
	if opts.dht != "off" {
		if n.dht, err = newDHT(h, opts, n.store); err != nil {
			return nil, fmt.Errorf("cannot start the DHT: %w", err)
		}
	}
	return n, nil
}

func (n *node) close() {
	if n.dht != nil {
		_ = n.dht.Close()
	}
	_ = n.host.Close()
}
