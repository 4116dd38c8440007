// A test binary as `go test -c` makes it: goroutines, timers and processes that it starts side by side.
//@ build: go test -c -o $OUT spawn_test.go
//@ run: $OUT -test.parallel 4
package spawn

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	status := m.Run()
	fmt.Println("ok")
	os.Exit(status)
}

func TestProcesses(t *testing.T) {
	for number := range [8]int{} {
		word := fmt.Sprint("word ", number)
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command("/bin/sh", "-c", "cat; exit 3").CombinedOutput()
			if code := err.(*exec.ExitError).ExitCode(); code != 3 || len(out) != 0 {
				t.Fatal(code, out)
			}
			echo := exec.Command("/bin/cat")
			echo.Stdin = strings.NewReader(word)
			if out, err := echo.Output(); err != nil || string(out) != word {
				t.Fatal(err, out)
			}
		})
	}
}

func TestGoroutines(t *testing.T) {
	var group sync.WaitGroup
	results := make(chan int, 100)
	for number := 0; number < 100; number++ {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			time.Sleep(time.Millisecond)
			results <- number
		}(number)
	}
	group.Wait()
	sum := 0
	for range [100]int{} {
		sum += <-results
	}
	if sum != 4950 {
		t.Fatal(sum)
	}
}

func TestAPanicIsCaught(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	var nowhere *int
	*nowhere = 1
}
