package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"time"

	"cbmdhi/chaincode/contract"
)

// config is everything that the operator decides. All of it is required, but for the clock's bound.
type config struct {
	// host:port that the peer dials.
	address string
	// Package id that the peer computed when the chaincode was installed.
	chaincodeID string
	// Mutual TLS: only the member's own peers may speak to the chaincode.
	tls *tls.Config
	// SHA-256 of the Genesis that the operator agreed to.
	genesisSHA256 [sha256.Size]byte
	// How far a transaction's time may be from this machine's clock.
	clockBound time.Duration
}

// loadConfig reads the environment, once. The error is a sentence for the operator.
func loadConfig(getenv func(string) string) (*config, error) {
	for _, name := range []string{
		"CHAINCODE_SERVER_ADDRESS", "CHAINCODE_ID", "CHAINCODE_TLS_KEY_FILE", "CHAINCODE_TLS_CERT_FILE",
		"CHAINCODE_TLS_CLIENT_CA_FILE", "CBMDHI_GENESIS_SHA256",
	} {
		if getenv(name) == "" {
			return nil, fmt.Errorf("%s is not set", name)
		}
	}
	c := &config{address: getenv("CHAINCODE_SERVER_ADDRESS"), chaincodeID: getenv("CHAINCODE_ID")}
	pin, err := hex.DecodeString(getenv("CBMDHI_GENESIS_SHA256"))
	if err != nil || len(pin) != sha256.Size {
		return nil, fmt.Errorf("CBMDHI_GENESIS_SHA256 is not 64 hex digits")
	}
	c.genesisSHA256 = [sha256.Size]byte(pin)

	c.clockBound = contract.DefaultClockBound
	if text := getenv("CBMDHI_CLOCK_BOUND_SECONDS"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 1 || seconds > 600 {
			return nil, fmt.Errorf("CBMDHI_CLOCK_BOUND_SECONDS is not a number of seconds from 1 to 600")
		}
		c.clockBound = time.Duration(seconds) * time.Second
	}

	pair, err := tls.LoadX509KeyPair(getenv("CHAINCODE_TLS_CERT_FILE"), getenv("CHAINCODE_TLS_KEY_FILE"))
	if err != nil {
		return nil, fmt.Errorf("CHAINCODE_TLS_CERT_FILE and CHAINCODE_TLS_KEY_FILE do not hold a key pair: %w", err)
	}
	pem, err := os.ReadFile(getenv("CHAINCODE_TLS_CLIENT_CA_FILE"))
	if err != nil {
		return nil, fmt.Errorf("CHAINCODE_TLS_CLIENT_CA_FILE cannot be read: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CHAINCODE_TLS_CLIENT_CA_FILE holds no certificate in PEM")
	}
	c.tls = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clients,
	}
	return c, nil
}
