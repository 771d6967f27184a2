package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

var (
	errUsage = errors.New("usage")
	keyTypes = []string{"ed25519", "secp256k1", "ecdsa", "rsa"}
)

type options struct {
	listen    []string
	keyType   string
	security  string
	muxer     string
	dht       string
	dhtPrefix string
	nodes     int
	psk       string
	webCert   string
	webTrust  string
}

func parseOptions(args []string) (*options, error) {
	opts := &options{}
	flags := flag.NewFlagSet("peer", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, printed by main
	flags.Func("listen", "address to listen on; repeatable", func(addr string) error {
		opts.listen = append(opts.listen, addr)
		return nil
	})
	oneOf := func(field *string, name, preset string, choices ...string) {
		*field = preset
		flags.Func(name, strings.Join(choices, "|"), func(value string) error {
			if !slices.Contains(choices, value) {
				return fmt.Errorf("not one of %s", strings.Join(choices, ", "))
			}
			*field = value
			return nil
		})
	}
	oneOf(&opts.keyType, "key-type", "ed25519", keyTypes...)
	oneOf(&opts.security, "security", "noise", "noise", "tls")
	oneOf(&opts.muxer, "muxer", "yamux", "yamux") // go-libp2p dropped mplex
	oneOf(&opts.dht, "dht", "off", "off", "server", "client")
	flags.StringVar(&opts.dhtPrefix, "dht-prefix", "/p2pstack", "prefix of the DHT protocol")
	flags.StringVar(&opts.psk, "psk", "", "key file of a private network")
	flags.StringVar(&opts.webCert, "web-cert", "", "PEM file with certificate chain and key, to listen on wss")
	flags.StringVar(&opts.webTrust, "web-trust", "", "PEM file with the certificates trusted on wss")
	flags.IntVar(&opts.nodes, "nodes", 1, "how many hosts this process runs")
	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%w: unexpected argument %q", errUsage, flags.Arg(0))
	}
	if opts.nodes < 1 {
		return nil, fmt.Errorf("%w: --nodes must be positive", errUsage)
	}
	return opts, nil
}
