package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"golang.org/x/sync/errgroup"
)

// dhtJoin has all nodes of this process connect to one address and fill their tables, at once.
func (n *node) dhtJoin(ctx context.Context, req *request) (result, error) {
	info, err := n.parseAddr(req.Addr)
	if err != nil {
		return nil, err
	}
	var tasks errgroup.Group
	for _, each := range *n.all {
		if each.host.ID() == info.ID {
			continue
		}
		tasks.Go(func() error {
			if err := each.host.Connect(ctx, *info); err != nil {
				return err
			}
			_, err := each.bootstrap(ctx, req)
			return err
		})
	}
	if err := tasks.Wait(); err != nil {
		return nil, err
	}
	sizes := []int{}
	for _, each := range *n.all {
		sizes = append(sizes, each.dht.RoutingTable().Size())
	}
	return result{"tables": sizes}, nil
}

// timed does so many pieces of work, so many at once.
func timed(req *request, work func(key string) error) (result, error) {
	var next atomic.Int64
	var tasks errgroup.Group
	start := time.Now()
	for range req.Concurrency {
		tasks.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= req.Count {
					return nil
				}
				if err := work(fmt.Sprintf("/v/%s %d", req.Prefix, i)); err != nil {
					return err
				}
			}
		})
	}
	if err := tasks.Wait(); err != nil {
		return nil, err
	}
	return result{"count": req.Count, "seconds": time.Since(start).Seconds(), "replicas": nil}, nil
}

func (n *node) benchPut(ctx context.Context, req *request) (result, error) {
	return timed(req, func(key string) error {
		value := make([]byte, req.Size)
		_, _ = rand.Read(value)
		return n.dht.PutValue(ctx, key, value)
	})
}

func (n *node) benchGet(ctx context.Context, req *request) (result, error) {
	quorum := 1
	if req.Quorum != nil {
		quorum = *req.Quorum
	}
	if err := n.forgetValues(ctx); err != nil {
		return nil, err
	}
	return timed(req, func(key string) error {
		value, err := n.dht.GetValue(ctx, key, dht.Quorum(quorum))
		if err == nil && len(value) != req.Size {
			err = errors.New("another value")
		}
		return err
	})
}

// forgetValues drops all local copies.
func (n *node) forgetValues(ctx context.Context) error {
	found, err := n.store.Query(ctx, query.Query{KeysOnly: true})
	if err != nil {
		return err
	}
	all, err := found.Rest()
	if err != nil {
		return err
	}
	for _, entry := range all {
		if err := n.store.Delete(ctx, datastore.NewKey(entry.Key)); err != nil {
			return err
		}
	}
	return nil
}
