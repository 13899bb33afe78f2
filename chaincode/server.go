package main

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

const (
	// The peer's limit, so that it and not we decides what is too large.
	maxMessageBytes = 100 << 20
	// How long a shutdown waits for the transactions that are under way.
	drainTimeout = 10 * time.Second
)

// serve answers the peer until the context ends, then finishes what is under way. The shim's own
// Start cannot stop, so its stream handler is put into a server of ours.
func serve(ctx context.Context, c *config, chaincode shim.Chaincode, ready func(net.Addr)) error {
	listener, err := net.Listen("tcp", c.address)
	if err != nil {
		return err
	}
	d := &drain{stop: ctx.Done()}
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(c.tls)),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.MaxSendMsgSize(maxMessageBytes),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Minute, PermitWithoutStream: true}),
		grpc.StreamInterceptor(d.intercept),
	)
	peer.RegisterChaincodeServer(server, &shim.ChaincodeServer{CCID: c.chaincodeID, CC: chaincode})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		force := time.AfterFunc(drainTimeout, server.Stop)
		defer force.Stop()
		server.GracefulStop()
	}()
	ready(listener.Addr())
	if err := server.Serve(listener); err != nil {
		return err
	}
	<-stopped
	return nil
}

// drain ends the peer's stream, which would otherwise live for ever, once no transaction is under
// way on it.
type drain struct{ stop <-chan struct{} }

func (d *drain) intercept(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	draining := &drainingStream{ServerStream: stream, idle: make(chan struct{})}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-d.stop:
			draining.count(0, true)
		case <-ended:
		}
	}()
	return handler(srv, draining)
}

// drainingStream counts the transactions between the peer's request and our answer.
type drainingStream struct {
	grpc.ServerStream
	mu       sync.Mutex
	underWay int
	stopping bool
	// Closed when the server stops and every transaction has been answered.
	idle chan struct{}
}

func (s *drainingStream) count(change int, stopping bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wasIdle := s.stopping && s.underWay == 0
	s.underWay += change
	s.stopping = s.stopping || stopping
	if s.stopping && s.underWay == 0 && !wasIdle {
		close(s.idle)
	}
}

// RecvMsg also returns, with EOF, once the stream is idle. The shim reads no further then.
func (s *drainingStream) RecvMsg(m any) error {
	result := make(chan error, 1)
	go func() {
		err := s.ServerStream.RecvMsg(m)
		if message, ok := m.(*peer.ChaincodeMessage); ok && err == nil && begins(message) {
			s.count(+1, false)
		}
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-s.idle:
		return io.EOF
	}
}

// SendMsg notes the answer to a transaction.
func (s *drainingStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if message, ok := m.(*peer.ChaincodeMessage); ok && ends(message) {
		s.count(-1, false)
	}
	return err
}

func begins(m *peer.ChaincodeMessage) bool {
	return m.GetType() == peer.ChaincodeMessage_TRANSACTION || m.GetType() == peer.ChaincodeMessage_INIT
}

func ends(m *peer.ChaincodeMessage) bool {
	return m.GetType() == peer.ChaincodeMessage_COMPLETED || m.GetType() == peer.ChaincodeMessage_ERROR
}
