package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
)

// environment of a member's chaincode server, with a certificate that is its own authority.
func environment(t testing.TB) map[string]string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, _ := x509.MarshalPKCS8PrivateKey(key)
	folder := t.TempDir()
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certificate := write("cert.pem", "CERTIFICATE", der)
	return map[string]string{
		"CHAINCODE_SERVER_ADDRESS": "127.0.0.1:0", "CHAINCODE_ID": "cbmdhi:1234", "CHAINCODE_TLS_CERT_FILE": certificate,
		"CHAINCODE_TLS_KEY_FILE": write("key.pem", "PRIVATE KEY", private), "CHAINCODE_TLS_CLIENT_CA_FILE": certificate,
		"CBMDHI_GENESIS_SHA256": strings.Repeat("ab", 32),
	}
}

func TestAnIncompleteConfigurationIsNamed(t *testing.T) {
	good := environment(t)
	if _, err := loadConfig(func(name string) string { return good[name] }); err != nil {
		t.Fatal(err)
	}
	for name := range good {
		for _, bad := range []string{"", "nowhere"} {
			if bad != "" && (name == "CHAINCODE_SERVER_ADDRESS" || name == "CHAINCODE_ID") {
				continue
			}
			_, err := loadConfig(func(asked string) string {
				if asked == name {
					return bad
				}
				return good[asked]
			})
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s=%q: %v", name, bad, err)
			}
		}
	}
}

func TestTheClocksBoundIsASettingWithinReason(t *testing.T) {
	env := environment(t)
	for text, want := range map[string]time.Duration{
		"": time.Minute, "5": 5 * time.Second, "600": 10 * time.Minute, "0": 0, "601": 0, "-1": 0, "a minute": 0,
	} {
		env["CBMDHI_CLOCK_BOUND_SECONDS"] = text
		config, err := loadConfig(func(name string) string { return env[name] })
		switch {
		case want == 0 && (err == nil || !strings.Contains(err.Error(), "CBMDHI_CLOCK_BOUND_SECONDS")):
			t.Errorf("%q: %v", text, err)
		case want != 0 && (err != nil || config.clockBound != want):
			t.Errorf("%q: %v %v", text, config, err)
		}
	}
}

// slow is a chaincode whose answer the test holds back.
type slow struct{ entered, leave chan struct{} }

func (s *slow) Init(shim.ChaincodeStubInterface) *peer.Response { return shim.Success(nil) }

func (s *slow) Invoke(shim.ChaincodeStubInterface) *peer.Response {
	close(s.entered)
	<-s.leave
	return shim.Success([]byte("answer"))
}

func TestAShutdownFinishesTheTransactionUnderWay(t *testing.T) {
	env := environment(t)
	config, err := loadConfig(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	chaincode := &slow{entered: make(chan struct{}), leave: make(chan struct{})}
	ready, served := make(chan net.Addr, 1), make(chan error, 1)
	go func() { served <- serve(ctx, config, chaincode, func(at net.Addr) { ready <- at }) }()

	address := <-ready
	stream := dial(t, config, address)
	send := func(m *peer.ChaincodeMessage) {
		t.Helper()
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if m := receive(t, stream); m.GetType() != peer.ChaincodeMessage_REGISTER {
		t.Fatalf("first message %v", m)
	}
	send(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_REGISTERED})
	send(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_READY})
	input, _ := proto.Marshal(&peer.ChaincodeInput{Args: [][]byte{[]byte("process")}})
	send(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_TRANSACTION, Txid: "tx", ChannelId: "ch", Payload: input})
	<-chaincode.entered

	stop()
	began := time.Now()
	untilRefused(t, address)
	close(chaincode.leave)
	if m := receive(t, stream); m.GetType() != peer.ChaincodeMessage_COMPLETED {
		t.Fatalf("the answer is %v", m)
	}
	if _, err := stream.Recv(); err == nil {
		t.Fatal("the stream outlived the shutdown")
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > drainTimeout/2 {
		t.Fatalf("the shutdown took %v: it waited for the peer to hang up", took)
	}
}

// untilRefused waits until the server takes no new connections: it is stopping.
func untilRefused(t *testing.T, at net.Addr) {
	t.Helper()
	for {
		connection, err := net.Dial("tcp", at.String())
		if err != nil {
			return
		}
		_ = connection.Close()
		if t.Context().Err() != nil {
			t.Fatal("the server does not stop")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAPeerWithoutACertificateIsNotServed(t *testing.T) {
	env := environment(t)
	config, err := loadConfig(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ready, served := make(chan net.Addr, 1), make(chan error, 1)
	go func() { served <- serve(ctx, config, &slow{}, func(at net.Addr) { ready <- at }) }()
	address := <-ready
	connection, err := tls.Dial("tcp", address.String(), &tls.Config{RootCAs: config.tls.ClientCAs, ServerName: "localhost"})
	if err == nil {
		// TLS 1.3: the server's refusal comes with the first read.
		_ = connection.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = connection.Read(make([]byte, 1))
	}
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Fatalf("without a certificate: %v", err)
	}
	stop()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}

func dial(t testing.TB, c *config, at net.Addr) peer.Chaincode_ConnectClient {
	t.Helper()
	connection, err := grpc.NewClient(at.String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: c.tls.ClientCAs, ServerName: "localhost", Certificates: c.tls.Certificates,
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	stream, err := peer.NewChaincodeClient(connection).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func receive(t testing.TB, stream peer.Chaincode_ConnectClient) *peer.ChaincodeMessage {
	t.Helper()
	m, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return m
}
