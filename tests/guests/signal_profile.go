// Go preempts busy goroutines by signals, profiles by a timer's, and looks at the interrupted code each time; here while
// others make calls, collect garbage and get signals of their own.
//@ build: go build -o $OUT signal_profile.go
//@ modes: plain summary trace
//@ seconds: 120
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
)

var sum, calls, signals int64

func busy(rounds int) {
	total := int64(0)
	for at := 0; at < rounds; at++ { // no call in which it could be preempted
		total = total*31 + int64(at)
	}
	atomic.AddInt64(&sum, total)
}

func call(rounds int) {
	file, err := os.Open("/dev/zero")
	if err != nil {
		panic(err)
	}
	defer file.Close()
	block := make([]byte, 64)
	for at := 0; at < rounds; at++ {
		if count, err := file.Read(block); count != 64 || err != nil {
			panic(err)
		}
		if syscall.Getppid() == 0 || syscall.Close(-1) != syscall.EBADF {
			panic("calls")
		}
		atomic.AddInt64(&calls, 3)
	}
}

func main() {
	runtime.GOMAXPROCS(4)
	var profile bytes.Buffer
	runtime.SetCPUProfileRate(1000)
	if err := pprof.StartCPUProfile(&profile); err != nil {
		panic(err)
	}
	notified := make(chan os.Signal, 1000)
	signal.Notify(notified, syscall.SIGUSR1)
	go func() {
		for range notified {
			atomic.AddInt64(&signals, 1)
		}
	}()
	var group sync.WaitGroup
	start := func(body func(int), rounds int) {
		group.Add(1)
		go func() {
			defer group.Done()
			body(rounds)
		}()
	}
	for worker := 0; worker < 6; worker++ {
		start(busy, 100_000_000)
		start(call, 10_000)
	}
	start(func(rounds int) {
		for at := 0; at < rounds; at++ {
			if err := syscall.Kill(syscall.Getpid(), syscall.SIGUSR1); err != nil {
				panic(err)
			}
			runtime.GC()
		}
	}, 200)
	group.Wait()
	pprof.StopCPUProfile()
	for atomic.LoadInt64(&signals) == 0 {
		runtime.Gosched()
	}
	fmt.Println(calls, sum, profile.Len() > 500)
	fmt.Println("ok")
}
