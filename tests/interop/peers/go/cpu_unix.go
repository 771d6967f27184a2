//go:build unix

package main

import "syscall"

// cpuSeconds is user and system time of this process.
func cpuSeconds() *float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return nil
	}
	seconds := float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
	return &seconds
}
