package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	commandv1 "cbmdhi.internal/protos/command/v1"
	identityv1 "cbmdhi.internal/protos/identity/v1"
)

const pollSeconds = 1

// join: enrol by the invitation's secret, register, and wait for the administrators. Begun again, it goes on where it was.
func (e *Engine) join(ctx context.Context, secret string) error {
	if err := e.enrol(ctx, secret); err != nil {
		return err
	}
	if err := e.connect(); err != nil {
		return err
	}
	status, err := e.ownStatus(ctx)
	if err == nil && status == commandv1.IdentityStatus_IDENTITY_STATUS_UNSPECIFIED {
		err = e.register(ctx)
	}
	if err != nil {
		return err
	}
	return e.untilActive(ctx)
}

// [start:enrol]
// enrol has the member's Fabric CA certify the key. The private key stays here.
func (e *Engine) enrol(ctx context.Context, secret string) error {
	ctx, cancel := context.WithTimeout(ctx, callSeconds*time.Second)
	defer cancel()
	request, err := e.certificateRequest()
	if err != nil {
		return err
	}
	given, err := identityv1.NewEnrolmentServiceClient(e.firstContact).Enrol(ctx, &identityv1.EnrolRequest{
		CsrPem: request, Secret: secret, Role: commandv1.Role_ROLE_ENGINE,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(e.state, certificateFile), []byte(given.GetCertificatePem()), 0o600)
}

// [end:enrol]

// [start:register]
// register asks the consortium for the identity: a command, signed with the key that it registers.
func (e *Engine) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callSeconds*time.Second)
	defer cancel()
	raw, err := os.ReadFile(filepath.Join(e.state, certificateFile))
	if err != nil {
		return err
	}
	certificate, _ := pem.Decode(raw)
	signed, err := e.command(&commandv1.CommandBody{Body: &commandv1.CommandBody_RegisterIdentity{
		RegisterIdentity: &commandv1.RegisterIdentity{
			Address: e.address, Role: commandv1.Role_ROLE_ENGINE, HomeMsp: e.member.MspID,
			SigningPublicKey: e.publicKey, HpkePublicKey: e.hpkePublic, EnrolmentCertificate: certificate.Bytes,
		},
	}})
	if err != nil {
		return err
	}
	given, err := identityv1.NewRegistrationServiceClient(e.gateway).Register(ctx, &identityv1.RegisterRequest{Command: signed})
	if err != nil {
		return err
	}
	entry, _, err := e.prove(ctx, signed)
	if err != nil {
		return fmt.Errorf("the registration (%v) is not proven: %w", given.GetReceipt().GetCode(), err)
	}
	if entry.GetCode() != commandv1.Code_CODE_OK {
		return fmt.Errorf("the registration was refused: %v %s", entry.GetCode(), entry.GetReason())
	}
	fmt.Println("registered", entry.GetCommandId())
	return nil
}

// [end:register]

// [start:command]
// command signs what a body means: for this channel and this beginning of it, from now for five minutes.
func (e *Engine) command(body *commandv1.CommandBody) (*commandv1.SignedCommand, error) {
	raw, err := proto.Marshal(body)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	command, err := proto.Marshal(&commandv1.Command{
		CommandId: uuid7(), Channel: e.consortium.Channel, GenesisSha256: e.genesis,
		IssuedAtMs: now, ExpiresAtMs: now + commandSeconds*1000, Body: raw,
	})
	if err != nil {
		return nil, err
	}
	signature, err := e.sign(commandLabel, command)
	return &commandv1.SignedCommand{Command: command, Signature: signature, Signer: e.address}, err
}

// [end:command]

// [start:approval]
// untilActive asks how the registration stands. The certificate is enough: there is no session before it is active.
func (e *Engine) untilActive(ctx context.Context) error {
	for {
		status, err := e.ownStatus(ctx)
		switch {
		case err != nil:
			return err
		case status == commandv1.IdentityStatus_IDENTITY_STATUS_ACTIVE:
			fmt.Println("active")
			return nil
		case status == commandv1.IdentityStatus_IDENTITY_STATUS_REJECTED:
			return errors.New("the administrators rejected the registration")
		}
		select {
		case <-time.After(pollSeconds * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ownStatus is unspecified before the gateway's own peer has heard of the registration.
func (e *Engine) ownStatus(ctx context.Context) (commandv1.IdentityStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, callSeconds*time.Second)
	defer cancel()
	registrations := identityv1.NewRegistrationServiceClient(e.gateway)
	given, err := registrations.GetOwnIdentity(ctx, &identityv1.GetOwnIdentityRequest{})
	if err != nil && detailOf(err).GetCode() == commandv1.Code_CODE_NOT_FOUND {
		return commandv1.IdentityStatus_IDENTITY_STATUS_UNSPECIFIED, nil
	}
	return given.GetIdentity().GetStatus(), err
}

// [end:approval]
