package main

import (
	"bytes"
	"context"
	"os"
	"strconv"
)

func (n *node) stats(context.Context, *request) (result, error) {
	return result{"rss_kib": rssKiB(), "cpu_seconds": cpuSeconds(), "connections": len(n.host.Network().Conns())}, nil
}

// rssKiB is the resident memory now, nil where there is no /proc (getrusage knows only the peak).
func rssKiB() *int {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return nil
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return nil
	}
	pages, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return nil
	}
	kib := pages * os.Getpagesize() / 1024
	return &kib
}
