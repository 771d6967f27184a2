// Command peer is go-libp2p as an interop peer: commands in on standard input, answers out on standard output, one JSON
// object a line.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	commandTimeout = 60 * time.Second
	stopTimeout    = time.Second
	library        = "github.com/libp2p/go-libp2p"
)

// printer writes whole lines of JSON, whoever calls.
type printer struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *printer) print(message any) {
	line, err := json.Marshal(message)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot encode an answer:", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = p.w.Write(append(line, '\n'))
}

// libraryVersion is the version of go-libp2p this program was built with.
func libraryVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == library {
				return dep.Version
			}
		}
	}
	return ""
}

// answer runs one command and prints how it went.
func answer(out *printer, commands []map[string]command, line []byte) {
	var req request
	err := json.Unmarshal(line, &req)
	var res result
	if err == nil && (req.Node < 0 || req.Node >= len(commands)) {
		err = fmt.Errorf("no node %d", req.Node)
	}
	if err == nil {
		if run, known := commands[req.Node][req.Cmd]; known {
			ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
			defer cancel()
			res, err = run(ctx, &req)
		} else {
			err = fmt.Errorf("unknown command %q", req.Cmd)
		}
	}
	if err != nil {
		text := strings.Join(strings.Fields(err.Error()), " ")
		out.print(map[string]any{"id": req.ID, "ok": false, "error": text})
		return
	}
	if res == nil {
		res = result{}
	}
	out.print(map[string]any{"id": req.ID, "ok": true, "result": res})
}

func run() error {
	opts, err := parseOptions(os.Args[1:])
	if err != nil {
		return err
	}
	nodes := make([]*node, 0, opts.nodes)
	commands := make([]map[string]command, 0, opts.nodes)
	told := make([]result, 0, opts.nodes)
	for range opts.nodes {
		n, err := newNode(opts, &nodes)
		if err != nil {
			return err
		}
		full, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: n.host.ID(), Addrs: n.host.Addrs()})
		if err != nil {
			return err
		}
		addrs := []string{}
		for _, addr := range full {
			addrs = append(addrs, addr.String())
		}
		nodes = append(nodes, n)
		commands = append(commands, n.commands())
		told = append(told, result{"peer_id": n.host.ID().String(), "addrs": addrs})
	}
	names := slices.Sorted(maps.Keys(commands[0]))
	out := &printer{w: os.Stdout}
	out.print(map[string]any{
		"ready": true, "peer_id": told[0]["peer_id"], "addrs": told[0]["addrs"], "nodes": told,
		"implementation": "go-libp2p", "version": libraryVersion(), "key_types": keyTypes, "commands": names,
	})

	input := bufio.NewReader(os.Stdin)
	for {
		line, err := input.ReadBytes('\n')
		if len(strings.TrimSpace(string(line))) > 0 {
			go answer(out, commands, line)
		}
		if err != nil {
			break
		}
	}

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for _, n := range nodes {
			n.close()
		}
	}()
	select {
	case <-stopped:
	case <-time.After(stopTimeout):
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, errUsage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}
