package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
)

// config is everything that the operator decides. All of it is required.
type config struct {
	// host:port that the peer dials.
	address string
	// Package id that the peer computed when the chaincode was installed.
	chaincodeID string
	// Mutual TLS: only the member's own peers may speak to the chaincode.
	tls *tls.Config
	// SHA-256 of the Genesis that the operator agreed to.
	genesisSHA256 [sha256.Size]byte
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
