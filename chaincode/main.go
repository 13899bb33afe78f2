// The chaincode of the mesh, as a service beside its member's peer.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"cbmdhi/chaincode/contract"
)

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	defer func() {
		// Of a transaction's panic the contract tells; this is one of ours.
		if fault := recover(); fault != nil {
			log.Error("panic", "fault", fmt.Sprintf("%T", fault), "stack", string(debug.Stack()))
			os.Exit(1)
		}
	}()
	config, err := loadConfig(os.Getenv)
	if err != nil {
		log.Error("cannot start: " + err.Error())
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	tracer, flush, err := tracer(os.Getenv)
	if err != nil {
		log.Error("cannot trace: " + err.Error())
		os.Exit(1)
	}
	defer flush()
	chaincode := &contract.Contract{
		GenesisSHA256: config.genesisSHA256, ClockBound: config.clockBound, Now: time.Now, Log: log, Tracer: tracer,
	}
	err = serve(ctx, config, chaincode, func(at net.Addr) { log.Info("serving", "address", at.String()) })
	if err != nil {
		flush()
		log.Error("cannot serve: " + err.Error())
		os.Exit(1)
	}
	log.Info("stopped")
}
