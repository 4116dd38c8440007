// os/exec, errors included, and a program that runs itself by its own link.
//@ build: go build -o $OUT exec_go.go

package main

import (
	"fmt"
	"os"
	"os/exec"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Println("child", os.Args)
		return
	}
	out, err := exec.Command("sh", "-c", "echo x; exit 2").CombinedOutput()
	fmt.Printf("%q %v\n", out, err)
	for _, bad := range []string{"/nonexistent", "/etc/passwd", "/etc"} {
		_, err = exec.Command(bad).Output()
		fmt.Println(err)
	}
	out, err = exec.Command("/proc/self/exe", "again").CombinedOutput()
	fmt.Printf("%q %v\n", out, err)
	done := make(chan error)
	for i := 0; i < 50; i++ {
		go func() { done <- exec.Command("/bin/true").Run() }()
	}
	for i := 0; i < 50; i++ {
		if err := <-done; err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("ok")
}
