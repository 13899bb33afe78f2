package main

import (
	"net"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"cbmdhi/chaincode/contract"
	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

// BenchmarkServing is a transaction of 150 records from the peer's request to the server's answer:
// mutual TLS, the shim, the peer's answers to what the chaincode reads, and the rules. The peer's own
// side, which only marshals here, is in the figures too.
func BenchmarkServing(b *testing.B) {
	const records = 150
	w := sim.New(b)
	engine := w.Active(pb.Role_ROLE_ENGINE, sim.Mercy)
	var items []*pb.BatchItem
	for range records {
		patient := w.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
		patient.Permit(&pb.Provision{Purposes: []string{"TREAT"}})
		w.Write(engine, patient)
		item := w.PutRecord(engine, patient, 1, w.ID())
		item.Contents[0].Replicas = []string{sim.Mercy, sim.Lakeside}
		items = append(items, item)
	}
	input := &peer.ChaincodeInput{Args: [][]byte{[]byte("process"), sim.Marshal(b, w.Batch(items...))}}
	transaction := &peer.ChaincodeMessage{
		Type: peer.ChaincodeMessage_TRANSACTION, Txid: "tx", ChannelId: sim.Channel,
		Payload: sim.Marshal(b, input), Proposal: proposal(b, w, input),
	}

	env := environment(b)
	config, err := loadConfig(func(name string) string { return env[name] })
	if err != nil {
		b.Fatal(err)
	}
	chaincode := &contract.Contract{
		GenesisSHA256: w.GenesisSHA256, ClockBound: contract.DefaultClockBound, Now: func() time.Time { return w.Now },
	}
	ready := make(chan net.Addr, 1)
	go func() { _ = serve(b.Context(), config, chaincode, func(at net.Addr) { ready <- at }) }()
	stream := dial(b, config, <-ready)
	send := func(m *peer.ChaincodeMessage) {
		if err := stream.Send(m); err != nil {
			b.Fatal(err)
		}
	}
	receive(b, stream)
	send(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_REGISTERED})
	send(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_READY, Payload: sim.Marshal(b, &peer.ChaincodeAdditionalParams{
		UseWriteBatch: true, MaxSizeWriteBatch: 1000, UseGetMultipleKeys: true, MaxSizeGetMultipleKeys: 1000,
	})})
	reply := func(m proto.Message) {
		send(&peer.ChaincodeMessage{
			Type: peer.ChaincodeMessage_RESPONSE, Txid: "tx", ChannelId: sim.Channel, Payload: sim.Marshal(b, m),
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		send(transaction)
		for answered := false; !answered; {
			switch m := receive(b, stream); m.GetType() {
			case peer.ChaincodeMessage_GET_STATE_MULTIPLE:
				asked, values := &peer.GetStateMultiple{}, &peer.GetStateMultipleResult{}
				if err := proto.Unmarshal(m.GetPayload(), asked); err != nil {
					b.Fatal(err)
				}
				for _, key := range asked.GetKeys() {
					values.Values = append(values.Values, w.State[key])
				}
				reply(values)
			case peer.ChaincodeMessage_WRITE_BATCH_STATE:
				reply(&peer.GetStateMultipleResult{})
			case peer.ChaincodeMessage_COMPLETED:
				answered = true
			default:
				b.Fatalf("the server asks for %v", m)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*records), "us/record")
}

// proposal is what the peer passes on of the client's: the chaincode learns from it who submits and when.
func proposal(b *testing.B, w *sim.World, input *peer.ChaincodeInput) *peer.SignedProposal {
	header := &common.Header{
		ChannelHeader: sim.Marshal(b, &common.ChannelHeader{
			Type: int32(common.HeaderType_ENDORSER_TRANSACTION), ChannelId: sim.Channel, TxId: "tx", Timestamp: timestamppb.New(w.Now),
		}),
		SignatureHeader: sim.Marshal(b, &common.SignatureHeader{
			Creator: w.Carrier(),
		}),
	}
	return &peer.SignedProposal{ProposalBytes: sim.Marshal(b, &peer.Proposal{
		Header: sim.Marshal(b, header), Payload: sim.Marshal(b, &peer.ChaincodeProposalPayload{Input: sim.Marshal(b, input)}),
	})}
}
