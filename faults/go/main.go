// The program behind faults/run: puts load on a server and writes down what it was promised, checks a
// data directory against such a ledger, and plays failing disks. See ../README.md.
package main

import (
	"fmt"
	"os"
)

const usage = `usage: weirlog-faults load SCENARIO DATA_DIR SOCKET LEDGER    runs the server under load on a logged disk
       weirlog-faults check LEDGER MOUNT                      checks the state of FAULTS_POSITION
       weirlog-faults lossy MOUNT SOCKET ROUNDS SEED SECONDS  kills and crashes on lossyfs, each checked
       weirlog-faults disk FAULT DATA_DIR SOCKET LEDGER       one failing or full disk
The server is $SUT with $SUT_ARGS; its log goes to $FAULTS_WORK. faults/run calls this program.`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("#", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 5 && args[0] == "load":
		return runLoad(args[1], args[2], args[3], args[4])
	case len(args) == 3 && args[0] == "check":
		return runCheck(args[1], args[2])
	case len(args) == 6 && args[0] == "lossy":
		return runLossy(args[1], args[2], args[3:])
	case len(args) == 5 && args[0] == "disk":
		return runDisk(args[1], args[2], args[3], args[4])
	}
	fmt.Fprintln(os.Stderr, usage)
	os.Exit(2)
	return nil
}
