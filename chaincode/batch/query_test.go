package batch_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func (s *story) query(q *pb.Query) (*pb.QueryResult, error) {
	return s.Rules.Query(s.Call(), sim.Marshal(s.t, q), sim.Ledger{World: s.World})
}

func TestExplainSaysWhatAnAccessWouldSay(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.patient.Permit(&pb.Provision{Grantees: []*pb.Grantee{{Address: s.clinician.Address}}})
	people := []*sim.Person{s.patient, s.engine, s.clinician, s.stranger, s.researcher, s.device}
	var items []*pb.ExplainItem
	for _, p := range people {
		items = append(items, &pb.ExplainItem{Principal: p.Address, Action: "read", RecordId: record, Version: 1, Purpose: "TREAT"})
	}
	var result *pb.QueryResult
	s.untouched(func() {
		var err error
		if result, err = s.query(&pb.Query{Query: &pb.Query_Explain{Explain: &pb.Explain{Items: items}}}); err != nil {
			t.Fatal(err)
		}
	})
	if s.Reads != 2 {
		t.Fatalf("%d multi-gets", s.Reads)
	}
	for i, p := range people {
		want := s.One(p.Sign(sim.Read(s.patient, record, "TREAT")))
		got := result.Verdicts[i]
		if got.GetCode() != want.GetCode() || got.GetReason() != want.GetReason() || !proto.Equal(got.GetBasis(), want.GetBasis()) {
			t.Errorf("explained %v, decided %v", got, want)
		}
	}
}

func TestExplainSaysWhetherADelegationStandsStill(t *testing.T) {
	stories := map[string]struct {
		ends func(s *story, d *pb.Delegation)
		code pb.Code
		path string
	}{
		"as it was": {func(*story, *pb.Delegation) {}, pb.Code_CODE_OK, ""},
		"ended by its person": {func(s *story, d *pb.Delegation) { s.expect(s.One(s.ends(s.patient, d)), pb.Code_CODE_OK) },
			pb.Code_CODE_FORBIDDEN, "delegation.delegation_id"},
		"ended by itself":      {func(s *story, _ *pb.Delegation) { s.Now = s.Now.Add(time.Hour) }, pb.Code_CODE_EXPIRED, "delegation.expires_at_ms"},
		"a device suspended":   {func(s *story, _ *pb.Delegation) { s.SetStatus(s.device, suspended) }, pb.Code_CODE_INACTIVE_SIGNER, "delegation.delegate"},
		"not the principal's":  {func(s *story, d *pb.Delegation) { d.Delegator = s.clinician.Address }, pb.Code_CODE_INVALID, "delegation.delegator"},
		"to who is no device":  {func(s *story, d *pb.Delegation) { d.Delegate = s.clinician.Address }, pb.Code_CODE_FORBIDDEN, "signer"},
		"to nobody":            {func(_ *story, d *pb.Delegation) { d.Delegate = "" }, pb.Code_CODE_INVALID, "delegation.delegate"},
		"of too many patients": {func(_ *story, d *pb.Delegation) { d.Patients = make([]string, 1000) }, pb.Code_CODE_TOO_LARGE, "delegation"},
	}
	for name, test := range stories {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			record := s.Write(s.engine, s.patient)
			d := s.patient.Delegation(s.device)
			test.ends(s, d)
			item := &pb.ExplainItem{
				Principal: s.patient.Address, Action: "read", RecordId: record, Version: 1, Purpose: "PATRQT", Delegation: sim.Marshal(t, d),
			}
			result, err := s.query(&pb.Query{Query: &pb.Query_Explain{Explain: &pb.Explain{Items: []*pb.ExplainItem{item}}}})
			if err != nil {
				t.Fatal(err)
			}
			path := test.path
			if path != "" {
				path = "explain.items[0]." + path
			}
			s.expectAt(result.Verdicts[0], test.code, path)
		})
	}
}

func TestExplainAnswersEachItemForItself(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	item := func(change func(*pb.ExplainItem)) *pb.ExplainItem {
		i := &pb.ExplainItem{Principal: s.patient.Address, Action: "search", RecordId: record, Version: 1, Purpose: "PATRQT"}
		change(i)
		return i
	}
	s.SetStatus(s.engine, suspended)
	stories := []struct {
		item *pb.ExplainItem
		code pb.Code
		path string
	}{
		{item(func(*pb.ExplainItem) {}), pb.Code_CODE_OK, ""},
		{item(func(i *pb.ExplainItem) { i.Principal = "jane" }), pb.Code_CODE_INVALID, "explain.items[1].principal"},
		{item(func(i *pb.ExplainItem) { i.Action = "break-glass" }), pb.Code_CODE_INVALID, "explain.items[2].action"},
		{item(func(i *pb.ExplainItem) { i.RecordId = s.ID() }), pb.Code_CODE_NOT_FOUND, "explain.items[3].record_id"},
		{item(func(i *pb.ExplainItem) { i.Principal = s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy).Address }), pb.Code_CODE_UNKNOWN_SIGNER, "explain.items[4].principal"},
		{item(func(i *pb.ExplainItem) { i.Principal = s.engine.Address }), pb.Code_CODE_INACTIVE_SIGNER, "explain.items[5].principal"},
		{item(func(i *pb.ExplainItem) { i.Action = "event" }), pb.Code_CODE_OK, ""},
		{item(func(i *pb.ExplainItem) { i.Action, i.Principal, i.Purpose = "write", s.clinician.Address, "TREAT" }), pb.Code_CODE_OK, ""},
		{item(func(i *pb.ExplainItem) { i.Purpose = "" }), pb.Code_CODE_INVALID, "explain.items[8].purpose"},
		{item(func(i *pb.ExplainItem) { i.Version = 0 }), pb.Code_CODE_INVALID, "explain.items[9].version"},
	}
	var items []*pb.ExplainItem
	for _, test := range stories {
		items = append(items, test.item)
	}
	result, err := s.query(&pb.Query{Query: &pb.Query_Explain{Explain: &pb.Explain{Items: items}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, test := range stories {
		s.expectAt(result.Verdicts[i], test.code, test.path)
	}
}

func TestKeysAreReadUnderClosedPrefixes(t *testing.T) {
	s := begin(t)
	get := func(keys ...string) (*pb.QueryResult, error) {
		return s.query(&pb.Query{Query: &pb.Query_GetKeys{GetKeys: &pb.GetKeys{Keys: keys}}})
	}
	result, err := get(state.PolicyKey, "id/nobody", state.MemberKey(sim.Mercy), state.PolicyKey)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Values) != 4 || len(result.Values[0]) == 0 || len(result.Values[1]) != 0 || len(result.Values[2]) == 0 {
		t.Fatalf("values %v", result.Values)
	}
	for _, key := range []string{"", "wkey/x", "po", "policy", "id/", "\x00id/x"} {
		if _, err := get(key); err == nil || !strings.HasPrefix(err.Error(), "CODE_INVALID: query: ") {
			t.Errorf("key %q: %v", key, err)
		}
	}
	if _, err := get(make([]string, 1001)...); err == nil || !strings.HasPrefix(err.Error(), "CODE_TOO_LARGE: query: ") {
		t.Errorf("1,001 keys: %v", err)
	}
	if result, err := get(); err != nil || len(result.Values) != 0 {
		t.Errorf("no keys: %v %v", result, err)
	}
}

func TestSealedKeysComeFromTheQueryingMembersOwnCollection(t *testing.T) {
	s := begin(t)
	s.Write(s.engine, s.patient)
	key := state.SealedWriterKeyName(sim.Mercy, s.WriterKey(s.patient, sim.Mercy).GetKeyId())
	get := func(keys ...string) (*pb.QueryResult, error) {
		return s.query(&pb.Query{Query: &pb.Query_GetSealedKeys{GetSealedKeys: &pb.GetSealedKeys{Keys: keys}}})
	}
	if result, err := get(key); err != nil || len(result.Values[0]) == 0 {
		t.Fatalf("own collection: %v %v", result, err)
	}
	s.Creator = sim.Lakeside
	if result, err := get(key); err != nil || len(result.Values[0]) != 0 {
		t.Fatalf("another member's collection: %v %v", result, err)
	}
	if _, err := get(state.PolicyKey); err == nil {
		t.Fatal("a public key from the private collection")
	}
	if _, err := get(make([]string, 101)...); err == nil || !strings.HasPrefix(err.Error(), "CODE_TOO_LARGE: query: ") {
		t.Fatalf("101 keys: %v", err)
	}
	if _, err := s.query(&pb.Query{}); err == nil {
		t.Fatal("an empty query")
	}
}

func TestNobodyIsAnsweredButAMember(t *testing.T) {
	queries := map[string]*pb.Query{
		"keys":        {Query: &pb.Query_GetKeys{GetKeys: &pb.GetKeys{Keys: []string{state.PolicyKey}}}},
		"sealed keys": {Query: &pb.Query_GetSealedKeys{GetSealedKeys: &pb.GetSealedKeys{Keys: []string{"wk/any"}}}},
		"decisions":   {Query: &pb.Query_Explain{Explain: &pb.Explain{}}},
	}
	for name, query := range queries {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			if _, err := s.query(query); err != nil {
				t.Fatal(err)
			}
			s.Creator = "OrderingMSP"
			if _, err := s.query(query); err == nil || !strings.HasPrefix(err.Error(), "CODE_FORBIDDEN: creator: ") {
				t.Fatalf("who is no member: %v", err)
			}
			s.Creator = sim.Mercy
			s.GenesisSHA256[0] ^= 1
			if _, err := s.query(query); err == nil || !strings.HasPrefix(err.Error(), "CODE_WRONG_CHANNEL: genesis: ") {
				t.Fatalf("a chaincode server with another hash: %v", err)
			}
		})
	}
}
