// The control socket of the disk under the server: one line asks, one line answers.
package main

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
)

// control asks over one connection that stays.
type control struct {
	mutex      sync.Mutex
	connection net.Conn
	answers    *bufio.Reader
}

func openControl(socket string) (*control, error) {
	connection, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	return &control{connection: connection, answers: bufio.NewReader(connection)}, nil
}

func (c *control) ask(command string) (string, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if _, err := fmt.Fprintln(c.connection, command); err != nil {
		return "", err
	}
	answer, err := c.answers.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	answer = strings.TrimSpace(answer)
	if strings.HasPrefix(answer, "error") {
		return "", fmt.Errorf("%s: %s", command, answer)
	}
	return answer, nil
}

// do is for commands that only fail when the disk's program is gone: then no verdict is worth anything.
func (c *control) do(command string) string {
	answer, err := c.ask(command)
	if err != nil {
		panic(err)
	}
	return answer
}

// position is how many writes and flushes the disk has taken.
func (c *control) position() int {
	position, err := strconv.Atoi(c.do("seq"))
	if err != nil {
		panic(err)
	}
	return position
}

// mark puts a name into the log: a phase begins.
func (c *control) mark(name string) { c.do("mark " + name) }
