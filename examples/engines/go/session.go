package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	commandv1 "cbmdhi.internal/protos/command/v1"
	identityv1 "cbmdhi.internal/protos/identity/v1"
)

const (
	callSeconds       = 30
	largestAnswer     = 17 << 20
	certificateFile   = "certificate.pem"
	sessionFile       = "session.json"
	loginLabel        = "cbmdhi/login/v1"
	commandLabel      = "cbmdhi/command/v1"
	delegationLabel   = "cbmdhi/delegation/v1"
	commandSeconds    = 300
	noCertificateText = "this engine is not enrolled yet: join first"
)

// Engine is one identity at one member's gateway.
type Engine struct {
	*Keys
	state        string
	consortium   *Consortium
	genesis      []byte
	member       Member
	renewBefore  time.Duration
	firstContact *grpc.ClientConn
	gateway      *grpc.ClientConn // with the engine's certificate
	refusals     []string
}

func openEngine(state string, renewBefore time.Duration) (*Engine, error) {
	keys, err := readKeys(state)
	if err != nil {
		return nil, err
	}
	name, err := os.ReadFile(filepath.Join(state, "member"))
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(state, "consortium.json"))
	if err != nil {
		return nil, err
	}
	pinned, err := parseConsortium(raw, string(name))
	if err != nil {
		return nil, err
	}
	engine := &Engine{Keys: keys, state: state, consortium: pinned, renewBefore: renewBefore}
	if engine.genesis, err = hex.DecodeString(pinned.GenesisSHA256); err != nil {
		return nil, err
	}
	for _, member := range pinned.Members {
		if member.Name == string(name) {
			engine.member = member
		}
	}
	engine.firstContact, err = engine.dial(engine.member.Gateway.FirstContact, nil)
	return engine, err
}

func (e *Engine) close() {
	for _, connection := range []*grpc.ClientConn{e.firstContact, e.gateway} {
		if connection != nil {
			connection.Close()
		}
	}
}

// dial: the server shows a certificate of its member's TLS CA for `gateway.<member>`, whatever the host is called.
func (e *Engine) dial(address string, certificates []tls.Certificate) (*grpc.ClientConn, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(e.member.TLSCaPem)) {
		return nil, errors.New("the member's TLS CA cannot be read")
	}
	secure := credentials.NewTLS(&tls.Config{
		RootCAs: roots, ServerName: "gateway." + e.member.Name, Certificates: certificates, MinVersion: tls.VersionTLS12,
	})
	return grpc.NewClient(address, grpc.WithTransportCredentials(secure),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largestAnswer)))
}

// connect shows the certificate that the member's Fabric CA gave for the engine's key.
func (e *Engine) connect() error {
	if e.gateway != nil {
		return nil
	}
	certificate, err := os.ReadFile(filepath.Join(e.state, certificateFile))
	if err != nil {
		return errors.New(noCertificateText)
	}
	key, err := os.ReadFile(filepath.Join(e.state, "key.pem"))
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	e.gateway, err = e.dial(e.member.Gateway.Grpc, []tls.Certificate{pair})
	return err
}

// [start:login]
// login shows that the engine holds the registered key. The token is bound to the certificate of the connection.
func (e *Engine) login(ctx context.Context) (*identityv1.LoginResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callSeconds*time.Second)
	defer cancel()
	raw, err := os.ReadFile(filepath.Join(e.state, certificateFile))
	if err != nil {
		return nil, errors.New(noCertificateText)
	}
	certificate, _ := pem.Decode(raw)
	digest := sha256.Sum256(certificate.Bytes)
	thumbprint := base64.RawURLEncoding.EncodeToString(digest[:])

	sessions := identityv1.NewSessionServiceClient(e.firstContact)
	challenge, err := sessions.Challenge(ctx, &identityv1.ChallengeRequest{Address: e.address})
	if err != nil {
		return nil, err
	}
	signature, err := e.sign(loginLabel, challenge.GetChallenge(), []byte(thumbprint))
	if err != nil {
		return nil, err
	}
	return sessions.Login(ctx, &identityv1.LoginRequest{
		Address: e.address, Challenge: challenge.GetChallenge(), Signature: signature, CertificateX5TS256: thumbprint,
	})
}

// [end:login]

type session struct {
	Token  string `json:"token"`
	EndsMs int64  `json:"ends_ms"`
}

// [start:renewal]
// withToken adds a token with some life left: the one of before, or a new one.
func (e *Engine) withToken(ctx context.Context) (context.Context, error) {
	var current session
	if raw, err := os.ReadFile(filepath.Join(e.state, sessionFile)); err == nil {
		_ = json.Unmarshal(raw, &current)
	}
	if current.Token == "" || time.Until(time.UnixMilli(current.EndsMs)) < e.renewBefore {
		given, err := e.login(ctx)
		if err != nil {
			return nil, err
		}
		current = session{given.GetToken(), given.GetExpiresAtMs()}
		raw, _ := json.Marshal(current)
		if err := os.WriteFile(filepath.Join(e.state, sessionFile), raw, 0o600); err != nil {
			return nil, err
		}
		fmt.Println("session until", current.EndsMs)
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+current.Token), nil
}

// forgetToken after CODE_UNAUTHENTICATED: the next call logs in.
func (e *Engine) forgetToken() { _ = os.Remove(filepath.Join(e.state, sessionFile)) }

// [end:renewal]

// [start:detail]
// detailOf an error of gRPC. Without one it is the transport's: what was sent may have arrived, so its outcome is unknown.
func detailOf(err error) *commandv1.ErrorDetail {
	told := status.Convert(err)
	for _, one := range told.Details() {
		if detail, isOurs := one.(*commandv1.ErrorDetail); isOurs {
			return detail
		}
	}
	code := commandv1.Code_CODE_UNAVAILABLE
	// A stream that was cut off with HTTP/2's ENHANCE_YOUR_CALM has this status too, and is no limit of size.
	if told.Code() == codes.ResourceExhausted && strings.Contains(told.Message(), "larger than") {
		code = commandv1.Code_CODE_TOO_LARGE
	}
	return &commandv1.ErrorDetail{Code: code, Reason: told.Message(), Outcome: commandv1.Outcome_OUTCOME_UNKNOWN}
}

// [end:detail]

// said of an error: the code's name and the sentence for people when it is gRPC's.
func said(err error) string {
	if err == nil {
		return "the gateway does not know either"
	}
	if _, isRPC := status.FromError(err); !isRPC {
		return err.Error()
	}
	detail := detailOf(err)
	return fmt.Sprint(detail.GetCode(), " ", detail.GetReason())
}
