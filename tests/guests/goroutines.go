// Goroutines on stacks of 2 KB that call the kernel directly, block, are preempted, grow, and talk over a socket.
//
//@ build: go build -o $OUT goroutines.go
//@ seconds: 120
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Calls the kernel at every depth of a growing stack.
func descend(depth int) int {
	var room [64]byte
	room[depth%64] = byte(syscall.Getpid())
	if depth == 0 {
		return int(room[0])
	}
	return descend(depth-1) + int(room[depth%64])*0
}

func echo(listener net.Listener, clients int) {
	for i := 0; i < clients; i++ {
		connection, err := listener.Accept()
		check(err)
		go func() {
			_, err := io.Copy(connection, connection)
			check(err)
			check(connection.Close())
		}()
	}
}

func main() {
	runtime.GOMAXPROCS(4)
	pid := syscall.Getpid()
	var group sync.WaitGroup
	var calls int64
	for i := 0; i < 200; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for round := 0; round < 50; round++ {
				if got, _, _ := syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0); int(got) != pid {
					panic("getpid")
				}
				if _, _, errno := syscall.Syscall(9999, 0, 0, 0); errno != syscall.ENOSYS {
					panic("ENOSYS")
				}
				if descend(round) != pid&255 {
					panic("descend")
				}
				atomic.AddInt64(&calls, 1)
				runtime.Gosched()
			}
		}()
	}
	// Loops without a call in them: only a signal can preempt them.
	stop := int64(0)
	for i := 0; i < 2; i++ {
		go func() {
			for x := 0; atomic.LoadInt64(&stop) == 0; x++ {
			}
		}()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go echo(listener, 20)
	for i := 0; i < 20; i++ {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			connection, err := net.Dial("tcp", listener.Addr().String())
			check(err)
			want := fmt.Sprintf("client %d", number)
			_, err = io.WriteString(connection, want)
			check(err)
			got := make([]byte, len(want))
			_, err = io.ReadFull(connection, got)
			check(err)
			if string(got) != want {
				panic(got)
			}
			check(connection.Close())
		}(i)
	}
	group.Wait()
	atomic.StoreInt64(&stop, 1)
	runtime.GC()
	time.Sleep(10 * time.Millisecond)
	executable, err := os.Executable()
	check(err)
	if executable != os.Args[0] {
		panic(executable)
	}
	fmt.Println(calls)
	fmt.Println("ok")
}
