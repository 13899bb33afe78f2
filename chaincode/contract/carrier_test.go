package contract_test

import (
	"bytes"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/msp"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func TestOnlyAMembersLedgerServiceCarriesAndAsks(t *testing.T) {
	w := sim.New(t)
	c := newContract(w, &bytes.Buffer{})
	asked := sim.Marshal(t, &pb.Query{Query: &pb.Query_GetKeys{GetKeys: &pb.GetKeys{Keys: []string{state.PolicyKey}}}})
	carried := sim.Marshal(t, &pb.Batch{Items: []*pb.BatchItem{sim.Item()}})
	const stranger = "CODE_FORBIDDEN: creator: "
	for name, attempt := range map[string]struct {
		creator        []byte
		query, process string
	}{
		"the ledger service":                {w.Carrier(), "", ""},
		"a client without the attribute":    {w.CreatorOf("client", `{"cbmdhi.role":"administrator"}`), stranger, stranger},
		"a client that is said not to be":   {w.CreatorOf("client", `{"cbmdhi.carrier":"false"}`), stranger, stranger},
		"a reader":                          {w.CreatorOf("client", `{"cbmdhi.reader":"true"}`), "", stranger},
		"a client that is said not to read": {w.CreatorOf("client", `{"cbmdhi.reader":"false"}`), stranger, stranger},
		"an administrator of the member":    {w.CreatorOf("admin", `{}`), stranger, stranger},
		"attributes that are none":          {w.CreatorOf("client", `[]`), stranger, stranger},
		"a creator without a certificate":   {sim.Marshal(t, &msp.SerializedIdentity{Mspid: sim.Mercy}), "CODE_INVALID: creator: ", "CODE_INVALID: creator: "},
		"a creator that is not even a key":  {[]byte{0xff}, "CODE_INVALID: creator: ", "CODE_INVALID: creator: "},
	} {
		t.Run(name, func(t *testing.T) {
			for function, call := range map[string]struct {
				argument []byte
				message  string
			}{"query": {asked, attempt.query}, "process": {carried, attempt.process}} {
				s := newStub(w, function, call.argument)
				s.creator = attempt.creator
				expect(t, c.Invoke(s), call.message)
				if call.message != "" && (s.gets != 0 || s.batches != 0) {
					t.Fatal("the state was touched")
				}
			}
		})
	}
}

func TestOnlyAnAdministratorBeginsTheChannel(t *testing.T) {
	w := sim.Empty(t)
	c := newContract(w, &bytes.Buffer{})
	begin := newStub(w, "init", sim.Marshal(t, w.Genesis()))
	begin.creator = w.Carrier()
	expect(t, c.Invoke(begin), "CODE_FORBIDDEN: creator: ")
	begin.creator = w.CreatorOf("admin", `{}`)
	expect(t, c.Invoke(begin), "")
}
