// An integration engine that speaks to a member's gateway over gRPC: its keys, its registration, its session, signed
// records, and receipts that it checks. It uses the generated messages and none of CBMDHI's own code.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const usage = `engine keys STATE CONSORTIUM MEMBER             make keys, print the address that an administrator invites
engine join STATE SECRET                        enrol, register, wait until the administrators approve
engine send STATE PATIENT CATEGORY FILE...      write each FILE (a FHIR R4 resource in JSON) into the patient's chart
engine resend STATE                             send again, as it was signed, what has no answer yet
engine check-vectors FOLDER                     check this client by tests/vectors

STATE is a folder of the engine's own. CONSORTIUM is consortium.json, had from somebody who is believed.
It ends with 0 when all is done and proven, 1 when something was refused or could not be done, 2 when it was called
otherwise than here, 3 when something was sent and has no certain answer yet.

`

const codesPage = "docs/integrate/error-codes.md"

// unanswered: something was sent, and what became of it is not known yet.
type unanswered string

func (e unanswered) Error() string { return string(e) }

func main() {
	renewBefore := flag.Int("renew-before", 30, "renew the session when it ends in so many seconds")
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage); flag.PrintDefaults() }
	flag.Parse()
	if err := run(flag.Args(), time.Duration(*renewBefore)*time.Second); err != nil {
		fmt.Fprintln(os.Stderr, said(err))
		var open unanswered
		if errors.As(err, &open) {
			os.Exit(3)
		}
		os.Exit(1)
	}
}

func run(args []string, renewBefore time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if len(args) < 2 {
		flag.Usage()
		os.Exit(2)
	}
	command, state, rest := args[0], args[1], args[2:]
	switch {
	case command == "check-vectors" && len(rest) == 0:
		return checkVectors(state)
	case command == "keys" && len(rest) == 2:
		return makeKeys(state, rest[0], rest[1])
	case command == "join" && len(rest) == 1:
		return withEngine(state, renewBefore, func(e *Engine) error { return e.join(ctx, rest[0]) })
	case command == "send" && len(rest) > 2:
		return withEngine(state, renewBefore, func(e *Engine) error { return e.send(ctx, rest[0], rest[1], rest[2:]) })
	case command == "resend" && len(rest) == 0:
		return withEngine(state, renewBefore, func(e *Engine) error { return e.deliver(ctx) })
	}
	flag.Usage()
	os.Exit(2)
	return nil
}

func withEngine(state string, renewBefore time.Duration, use func(*Engine) error) error {
	engine, err := openEngine(state, renewBefore)
	if err != nil {
		return err
	}
	defer engine.close()
	if err := use(engine); err != nil || len(engine.refusals) == 0 {
		return err
	}
	return fmt.Errorf("refused: %s\nWhat each code asks you to do: %s. What was signed is kept in %s",
		strings.Join(engine.refusals, "\nrefused: "), codesPage, filepath.Join(state, "refused"))
}
