package batch_test

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"cbmdhi/chaincode/batch"
	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func nextPolicy(t *testing.T) *pb.PolicyDocument {
	p := sim.DefaultPolicy(t)
	p.Version = 2
	p.Cedar += `
		@id("administrators-read") permit (principal, action == Action::"read", resource)
		when { principal.role == "administrator" && principal.msp == resource.patient_msp };`
	return p
}

func vote(by *sim.Person, p *pb.PolicyDocument) *pb.SignedCommand {
	return by.Sign(sim.Body(&pb.SetPolicy{Policy: p}))
}

func (s *story) policy() *pb.PolicyState {
	inForce := &pb.PolicyState{}
	s.Document(state.PolicyKey, inForce)
	return inForce
}

// voteFor reads a member's vote for the policy of that version.
func (s *story) voteFor(version uint64, msp string) *pb.PolicyVote {
	vote := &pb.PolicyVote{}
	s.Document(state.PolicyVoteKey(version, msp), vote)
	return vote
}

func TestAPolicyTakesEffectWithTheMajority(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	read := func() *pb.Verdict { return s.One(s.administrator.Sign(sim.Read(s.patient, record, "TREAT"))) }
	s.expect(s.One(vote(s.administrator, nextPolicy(t))), pb.Code_CODE_OK)
	if s.policy().GetPolicy().GetVersion() != 1 || s.voteFor(2, sim.Mercy).GetPolicy().GetVersion() != 2 {
		t.Fatalf("after one vote of three: %v, %v", s.policy(), s.voteFor(2, sim.Mercy))
	}
	s.expect(read(), pb.Code_CODE_FORBIDDEN)
	s.expect(s.One(vote(s.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy), nextPolicy(t))), pb.Code_CODE_CONFLICT)
	// The vote decides, and what follows it in the same batch is decided by the new policy.
	attempt := func() *pb.BatchItem { return sim.Item(s.administrator.Sign(sim.Read(s.patient, record, "TREAT"))) }
	result := s.Process(attempt(), sim.Item(vote(s.otherAdministrator, nextPolicy(t))), attempt())
	s.expect(result.Groups[0].Verdicts[0], pb.Code_CODE_FORBIDDEN)
	s.expect(result.Groups[1].Verdicts[0], pb.Code_CODE_OK)
	v := s.expect(result.Groups[2].Verdicts[0], pb.Code_CODE_OK)
	if v.GetBasis().GetPolicyVersion() != 2 || !slices.Equal(v.GetBasis().GetPolicies(), []string{"administrators-read"}) {
		t.Fatalf("basis %v", v.GetBasis())
	}
	if s.policy().GetPolicy().GetVersion() != 2 {
		t.Fatalf("after the majority: %v", s.policy())
	}
	s.expect(s.One(vote(s.thirdAdmin, nextPolicy(t))), pb.Code_CODE_CONFLICT)
}

func TestAMemberMovesItsVoteAndNeverCountsTwice(t *testing.T) {
	s := begin(t)
	one, two, three := nextPolicy(t), nextPolicy(t), nextPolicy(t)
	two.MinReplicas, three.MinReplicas = 2, 3
	s.expect(s.One(vote(s.administrator, three)), pb.Code_CODE_OK)
	s.expect(s.One(vote(s.administrator, one)), pb.Code_CODE_OK)
	if got := s.voteFor(2, sim.Mercy).GetPolicy().GetMinReplicas(); got != 1 {
		t.Fatalf("the vote for the first document stands: %d", got)
	}
	s.expect(s.One(vote(s.otherAdministrator, two)), pb.Code_CODE_OK)
	if s.policy().GetPolicy().GetVersion() != 1 {
		t.Fatalf("two votes for two documents: %v", s.policy())
	}
	s.expect(s.One(vote(s.administrator, two)), pb.Code_CODE_OK)
	if p := s.policy().GetPolicy(); p.GetVersion() != 2 || p.GetMinReplicas() != 2 {
		t.Fatalf("policy %v", p)
	}
}

func TestAPolicyThatCannotWorkIsNotVotedFor(t *testing.T) {
	stories := map[string]struct {
		change func(*pb.PolicyDocument)
		code   pb.Code
		path   string
	}{
		"a version too far":        {func(p *pb.PolicyDocument) { p.Version = 3 }, pb.Code_CODE_CONFLICT, ".version"},
		"text that does not parse": {func(p *pb.PolicyDocument) { p.Cedar += "permit (" }, pb.Code_CODE_INVALID, ".cedar"},
		"no policy at all":         {func(p *pb.PolicyDocument) { p.Cedar = "// nothing" }, pb.Code_CODE_INVALID, ".cedar"},
		"a policy without a name":  {func(p *pb.PolicyDocument) { p.Cedar += "permit (principal, action, resource);" }, pb.Code_CODE_INVALID, ".cedar"},
		"a name used twice": {func(p *pb.PolicyDocument) { p.Cedar += `@id("consent-permits") forbid (principal, action, resource);` },
			pb.Code_CODE_INVALID, ".cedar"},
		"a misspelt attribute": {func(p *pb.PolicyDocument) {
			p.Cedar += `@id("x") forbid (principal, action, resource) when { principal.rolle == "device" };`
		}, pb.Code_CODE_INVALID, ".cedar"},
		"an unknown action": {func(p *pb.PolicyDocument) {
			p.Cedar += `@id("x") forbid (principal, action == Action::"raed", resource);`
		},
			pb.Code_CODE_INVALID, ".cedar"},
		"a text under which nothing goes": {func(p *pb.PolicyDocument) {
			p.Cedar += `@id("x") forbid (principal, action, resource);`
		}, pb.Code_CODE_INVALID, ".cedar"},
		"no more administrators": {func(p *pb.PolicyDocument) {
			p.ReviewRules = slices.DeleteFunc(p.ReviewRules, func(r *pb.ReviewRule) bool { return r.Role == pb.Role_ROLE_ADMINISTRATOR })
		}, pb.Code_CODE_INVALID, ".review_rules"},
		"no more patients": {func(p *pb.PolicyDocument) { p.ReviewRules = p.ReviewRules[1:] }, pb.Code_CODE_INVALID, ".review_rules"},
		"no more clinicians": {func(p *pb.PolicyDocument) {
			p.ReviewRules = slices.DeleteFunc(p.ReviewRules, func(r *pb.ReviewRule) bool { return r.Role == pb.Role_ROLE_CLINICIAN })
		}, pb.Code_CODE_INVALID, ".review_rules"},
		"a text over the limit":     {func(p *pb.PolicyDocument) { p.Cedar += strings.Repeat("//\n", 50_000) }, pb.Code_CODE_TOO_LARGE, ".cedar"},
		"a quorum nobody can reach": {func(p *pb.PolicyDocument) { p.ReviewRules[0].Quorum = 4 }, pb.Code_CODE_INVALID, ".review_rules[0].quorum"},
		"a home quorum of two":      {func(p *pb.PolicyDocument) { p.ReviewRules[3].Quorum = 2 }, pb.Code_CODE_INVALID, ".review_rules[3].quorum"},
		"clinicians by the word of their own member": {func(p *pb.PolicyDocument) {
			p.ReviewRules[1].Quorum, p.ReviewRules[1].HomeOnly = 1, true
		}, pb.Code_CODE_INVALID, ".review_rules[1].home_only"},
		"clinicians without review":     {func(p *pb.PolicyDocument) { p.ReviewRules[1].Quorum = 0 }, pb.Code_CODE_INVALID, ".review_rules[1].quorum"},
		"administrators without review": {func(p *pb.PolicyDocument) { p.ReviewRules[2].Quorum = 0 }, pb.Code_CODE_INVALID, ".review_rules[2].quorum"},
		"officers without review":       {func(p *pb.PolicyDocument) { p.ReviewRules[5].Quorum = 0 }, pb.Code_CODE_INVALID, ".review_rules[5].quorum"},
		"no limits of break-glass":      {func(p *pb.PolicyDocument) { p.BreakGlass = nil }, pb.Code_CODE_INVALID, ".break_glass.window_hours"},
		"a window of more than a week":  {func(p *pb.PolicyDocument) { p.BreakGlass.WindowHours = 169 }, pb.Code_CODE_INVALID, ".break_glass.window_hours"},
		"no break-glass":                {func(p *pb.PolicyDocument) { p.BreakGlass.Patients = 0 }, pb.Code_CODE_INVALID, ".break_glass.patients"},
		"the glass of a whole town":     {func(p *pb.PolicyDocument) { p.BreakGlass.Patients = 51 }, pb.Code_CODE_INVALID, ".break_glass.patients"},
		"every record of it":            {func(p *pb.PolicyDocument) { p.BreakGlass.Records = 1001 }, pb.Code_CODE_INVALID, ".break_glass.records"},
		"and nobody looks":              {func(p *pb.PolicyDocument) { p.BreakGlass.Unreviewed = 1001 }, pb.Code_CODE_INVALID, ".break_glass.unreviewed"},
		"a role twice":                  {func(p *pb.PolicyDocument) { p.ReviewRules[1].Role = pb.Role_ROLE_PATIENT }, pb.Code_CODE_INVALID, ".review_rules[1].role"},
		"more replicas than members":    {func(p *pb.PolicyDocument) { p.MinReplicas = 4 }, pb.Code_CODE_INVALID, ".min_replicas"},
		"no replicas":                   {func(p *pb.PolicyDocument) { p.MinReplicas = 0 }, pb.Code_CODE_INVALID, ".min_replicas"},
	}
	for name, test := range stories {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			p := nextPolicy(t)
			test.change(p)
			s.untouched(func() { s.expectAt(s.One(vote(s.administrator, p)), test.code, "body.set_policy.policy"+test.path) })
		})
	}
}

func TestOnlyAdministratorsVote(t *testing.T) {
	s := begin(t)
	s.expect(s.One(vote(s.clinician, nextPolicy(t))), pb.Code_CODE_FORBIDDEN)
	s.expect(s.One(vote(s.officer, nextPolicy(t))), pb.Code_CODE_FORBIDDEN)
	outsider := s.Identity(s.administrator.Address)
	outsider.HomeMsp = "NowhereMSP"
	s.State[state.IdentityKey(outsider.Address)] = sim.Marshal(t, outsider)
	s.expect(s.One(vote(s.administrator, nextPolicy(t))), pb.Code_CODE_FORBIDDEN)
	if s.voteFor(2, sim.Mercy).GetVote() != nil {
		t.Fatal("the vote was kept")
	}
}

func TestTheGenesisIsTheOneThatTheOperatorAgreedToAndHappensOnce(t *testing.T) {
	change := map[string]struct {
		change func(w *sim.World, g *pb.Genesis)
		code   pb.Code
	}{
		"another channel":       {func(_ *sim.World, g *pb.Genesis) { g.Channel = "elsewhere" }, pb.Code_CODE_WRONG_CHANNEL},
		"a member twice":        {func(_ *sim.World, g *pb.Genesis) { g.Members[1].Msp = g.Members[0].Msp }, pb.Code_CODE_INVALID},
		"no certificates":       {func(_ *sim.World, g *pb.Genesis) { g.Members[0].CaCertificatesPem = "" }, pb.Code_CODE_INVALID},
		"a short vault key":     {func(_ *sim.World, g *pb.Genesis) { g.Members[0].VaultPublicKey = nil }, pb.Code_CODE_INVALID},
		"no storage key":        {func(_ *sim.World, g *pb.Genesis) { g.Members[0].StorageSigningKey = nil }, pb.Code_CODE_INVALID},
		"a policy without name": {func(_ *sim.World, g *pb.Genesis) { g.Policy.Cedar = "permit (principal, action, resource);" }, pb.Code_CODE_INVALID},
		"a policy for nobody": {func(_ *sim.World, g *pb.Genesis) {
			g.Policy.Cedar += `@id("x") forbid (principal, action, resource);`
		}, pb.Code_CODE_INVALID},
		"version 7":     {func(_ *sim.World, g *pb.Genesis) { g.Policy.Version = 7 }, pb.Code_CODE_INVALID},
		"an outsider's": {func(w *sim.World, _ *pb.Genesis) { w.Creator = "NowhereMSP" }, pb.Code_CODE_FORBIDDEN},
	}
	try := func(w *sim.World, g *pb.Genesis, pin *[32]byte) error {
		raw := sim.Marshal(w.T, g)
		agreed := sha256.Sum256(raw)
		if pin != nil {
			agreed = *pin
		}
		w.GenesisSHA256 = agreed
		_, err := w.Rules.Init(w.Call(), raw, sim.Ledger{World: w})
		return err
	}
	expect := func(t *testing.T, err error, code pb.Code) {
		t.Helper()
		if err == nil || !strings.HasPrefix(err.Error(), code.String()+": ") {
			t.Fatalf("error %v, want %v", err, code)
		}
	}
	for name, test := range change {
		t.Run(name, func(t *testing.T) {
			w := sim.Empty(t)
			g := w.Genesis()
			for i, m := range g.Members {
				g.Members[i] = proto.CloneOf(m)
			}
			test.change(w, g)
			expect(t, try(w, g, nil), test.code)
		})
	}
	w := sim.Empty(t)
	expect(t, try(w, w.Genesis(), &[32]byte{}), pb.Code_CODE_FORBIDDEN)
	w.Init(w.Genesis())
	if len(w.State) != 5 {
		t.Fatalf("%d documents after the genesis of three members", len(w.State))
	}
	expect(t, try(w, w.Genesis(), nil), pb.Code_CODE_CONFLICT)
	policy := w.State[state.PolicyKey]
	delete(w.State, state.PolicyKey)
	expect(t, try(w, w.Genesis(), nil), pb.Code_CODE_CONFLICT)
	// Nor does a policy without members, which no chaincode leaves behind.
	w.State = map[string][]byte{state.PolicyKey: policy}
	expect(t, try(w, w.Genesis(), nil), pb.Code_CODE_CONFLICT)
}

func TestABatchAsAWholeIsRefusedWithACodeInTheMessage(t *testing.T) {
	w := sim.New(t)
	item := sim.Item(&pb.SignedCommand{})
	run := func(raw, sealed []byte) error {
		_, err := w.Rules.Process(w.Call(), raw, sealed, sim.Ledger{World: w})
		return err
	}
	many := &pb.Batch{}
	for range batch.MaxItems + 1 {
		many.Items = append(many.Items, item)
	}
	good := sim.Marshal(t, w.Batch(item))
	for want, err := range map[string]error{
		"CODE_INVALID: batch: not a serialized Batch": run([]byte{0xff}, nil),
		"CODE_INVALID: batch: no items":               run(nil, nil),
		"CODE_TOO_LARGE: batch: more than 1000 items": run(sim.Marshal(t, many), nil),
		"CODE_TOO_LARGE: batch: over 9437184 bytes":   run(make([]byte, batch.MaxBatchBytes+1), nil),
		"CODE_INVALID: sealed_keys: ":                 run(good, []byte{0xff}),
		"CODE_TOO_LARGE: sealed_keys: a sealed key is over 8192 bytes": run(good, sim.Marshal(t, &pb.SealedKeys{
			Keys: []*pb.SealedKey{{Msp: sim.Mercy, Key: "wk/x", Sealed: make([]byte, batch.MaxSealedKeyBytes+1)}},
		})),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	w.GenesisSHA256[0] ^= 1
	if err := run(good, nil); err == nil || !strings.HasPrefix(err.Error(), "CODE_WRONG_CHANNEL: genesis: ") {
		t.Errorf("a chaincode server with another hash: %v", err)
	}
	w.GenesisSHA256[0] ^= 1
	w.Creator = "NowhereMSP"
	if err := run(good, nil); err == nil || !strings.HasPrefix(err.Error(), "CODE_FORBIDDEN: creator: ") {
		t.Errorf("an outsider's batch: %v", err)
	}
	w = sim.Empty(t)
	if err := run(good, nil); err == nil || !strings.HasPrefix(err.Error(), "CODE_NOT_FOUND: genesis: ") {
		t.Errorf("a batch before the genesis: %v", err)
	}
}
