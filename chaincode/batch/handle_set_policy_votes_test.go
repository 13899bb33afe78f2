package batch_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

// consortium is a channel of n members with an administrator each.
func consortium(t sim.T, n int) (*sim.World, []*sim.Person) {
	t.Helper()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("M%02dMSP", i))
	}
	w := sim.Of(t, names...)
	var administrators []*sim.Person
	for _, name := range names {
		administrators = append(administrators, w.Active(pb.Role_ROLE_ADMINISTRATOR, name))
	}
	return w, administrators
}

func version(w *sim.World) uint64 {
	inForce := &pb.PolicyState{}
	w.Document(state.PolicyKey, inForce)
	return inForce.GetPolicy().GetVersion()
}

func TestMoreThanHalfOfTheMembersMakeAPolicyAlsoWhereHalfOfThemIsAWholeNumber(t *testing.T) {
	for members, needed := range map[int]int{2: 2, 3: 2, 4: 3, 5: 3, 6: 4} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			w, administrators := consortium(t, members)
			next := sim.DefaultPolicy(t)
			next.Version = 2
			for i, by := range administrators[:needed] {
				w.MustOK(w.One(vote(by, next)))
				if got, want := version(w) == 2, i+1 == needed; got != want {
					t.Fatalf("in force after %d of %d votes: %v", i+1, members, got)
				}
			}
		})
	}
}

// TestAPolicyIsInForceExactlyWhenMoreThanHalfWantIt plays votes, changes of mind, withdrawals and
// suspensions against a count kept beside.
func TestAPolicyIsInForceExactlyWhenMoreThanHalfWantIt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		members := rapid.IntRange(2, 6).Draw(rt, "members")
		w, administrators := consortium(rt, members)
		documents := make([]*pb.PolicyDocument, 2)
		for i := range documents {
			documents[i] = sim.DefaultPolicy(rt)
			documents[i].Version, documents[i].MinReplicas = 2, uint32(1+i)
		}
		wants := map[int]int{} // Which document a member wants, by its vote as it stands.
		idle := map[int]bool{}
		for range 12 {
			i := rapid.IntRange(0, members-1).Draw(rt, "member")
			switch rapid.IntRange(0, 4).Draw(rt, "deed") {
			case 0:
				w.SetStatus(administrators[i], suspended)
				idle[i] = true
			case 1:
				w.SetStatus(administrators[i], active)
				idle[i] = false
			case 2:
				v := w.One(administrators[i].Sign(sim.Body(&pb.SetPolicy{Withdraw: true})))
				if _, voted := wants[i]; !idle[i] && voted != (v.GetCode() == pb.Code_CODE_OK) {
					rt.Fatalf("a withdrawal where a vote stood: %v, gave %v", voted, v)
				}
				if !idle[i] {
					delete(wants, i)
				}
			default:
				d := rapid.IntRange(0, 1).Draw(rt, "document")
				w.One(vote(administrators[i], documents[d]))
				if !idle[i] {
					wants[i] = d
				}
				count := 0
				for member, wanted := range wants {
					if wanted == d && !idle[member] {
						count++
					}
				}
				inForce := !idle[i] && 2*count > members
				if inForce != (version(w) == 2) {
					rt.Fatalf("%d of %d members want it, and it is in force: %v", count, members, !inForce)
				}
				if inForce {
					return
				}
			}
		}
	})
}

func TestAVoteOfASuspendedAdministratorCountsNoMoreAndTheMemberVotesAgain(t *testing.T) {
	s := begin(t)
	s.expect(s.One(vote(s.administrator, nextPolicy(t))), pb.Code_CODE_OK)
	s.SetStatus(s.administrator, suspended)
	s.expect(s.One(vote(s.otherAdministrator, nextPolicy(t))), pb.Code_CODE_OK)
	if s.policy().GetPolicy().GetVersion() != 1 {
		t.Fatal("one member's vote and that of a suspended administrator made a policy")
	}
	successor := s.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy)
	s.expect(s.One(vote(successor, nextPolicy(t))), pb.Code_CODE_OK)
	if s.policy().GetPolicy().GetVersion() != 2 {
		t.Fatal("two members want it")
	}
}

func TestOnlyAnAdministratorOfTheMemberStandsBehindItsVote(t *testing.T) {
	for name, change := range map[string]func(*pb.IdentityDocument){
		"in another role now":   func(d *pb.IdentityDocument) { d.Role = pb.Role_ROLE_CLINICIAN },
		"of another member now": func(d *pb.IdentityDocument) { d.HomeMsp = sim.Insurer },
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.expect(s.One(vote(s.administrator, nextPolicy(t))), pb.Code_CODE_OK)
			document := s.Identity(s.administrator.Address)
			change(document)
			s.State[state.IdentityKey(s.administrator.Address)] = sim.Marshal(t, document)
			s.expect(s.One(vote(s.otherAdministrator, nextPolicy(t))), pb.Code_CODE_OK)
			if s.policy().GetPolicy().GetVersion() != 1 {
				t.Fatal("the vote counted")
			}
		})
	}
}

func TestAMemberTakesItsVoteForAPolicyBack(t *testing.T) {
	s := begin(t)
	withdraw := func(by *sim.Person) *pb.Verdict {
		return s.One(by.Sign(sim.Body(&pb.SetPolicy{Withdraw: true})))
	}
	s.expectAt(withdraw(s.administrator), pb.Code_CODE_NOT_FOUND, "body.set_policy.withdraw")
	s.expect(s.One(vote(s.administrator, nextPolicy(t))), pb.Code_CODE_OK)
	s.expect(withdraw(s.clinician), pb.Code_CODE_FORBIDDEN)
	s.expect(withdraw(s.otherAdministrator), pb.Code_CODE_NOT_FOUND)
	s.expect(withdraw(s.administrator), pb.Code_CODE_OK)
	s.expect(withdraw(s.administrator), pb.Code_CODE_NOT_FOUND)
	s.expect(s.One(vote(s.otherAdministrator, nextPolicy(t))), pb.Code_CODE_OK)
	if s.policy().GetPolicy().GetVersion() != 1 {
		t.Fatal("the vote that was taken back counted")
	}
	s.expect(s.One(vote(s.administrator, nextPolicy(t))), pb.Code_CODE_OK)
	if s.policy().GetPolicy().GetVersion() != 2 {
		t.Fatal("two members want it")
	}
	s.expectAt(s.One(s.administrator.Sign(sim.Body(&pb.SetPolicy{Withdraw: true, Policy: nextPolicy(t)}))),
		pb.Code_CODE_INVALID, "body.set_policy.policy")
	s.expectAt(s.One(s.administrator.Sign(sim.Body(&pb.SetPolicy{}))), pb.Code_CODE_INVALID, "body.set_policy.policy")
}

func TestAVoteWritesNothingThatOtherBatchesRead(t *testing.T) {
	s := begin(t)
	out, err := s.Endorse(sim.Item(vote(s.administrator, nextPolicy(t))))
	if err != nil {
		t.Fatal(err)
	}
	for _, write := range out.Writes {
		if write.Key == state.PolicyKey {
			t.Fatal("a vote that decides nothing rewrites the policy in force")
		}
	}
	voters := []string{state.PolicyVoteKey(2, sim.Mercy)}
	for _, write := range out.Writes {
		if strings.HasPrefix(write.Key, state.PolicyVotePrefix) && write.Key != voters[0] {
			t.Fatalf("a member's vote wrote %s", write.Key)
		}
	}
	// A batch of records reads no votes.
	if _, err := s.Endorse(s.PutRecord(s.engine, s.patient, 1, s.ID())); err != nil {
		t.Fatal(err)
	}
	for _, key := range s.ReadKeys {
		if strings.HasPrefix(key, state.PolicyVotePrefix) {
			t.Fatalf("a record reads %s", key)
		}
	}
	if s.Reads != 1 {
		t.Fatalf("a record takes %d multi-gets", s.Reads)
	}
}

func TestAVoteInTheBatchThatMadeAPolicyIsCastAgain(t *testing.T) {
	s := begin(t)
	third := nextPolicy(t)
	third.Version = 3
	s.expect(s.One(vote(s.administrator, nextPolicy(t))), pb.Code_CODE_OK)
	result := s.Process(sim.Item(vote(s.otherAdministrator, nextPolicy(t))), sim.Item(vote(s.administrator, third)))
	s.expect(result.Groups[0].Verdicts[0], pb.Code_CODE_OK)
	s.expectAt(result.Groups[1].Verdicts[0], pb.Code_CODE_CONFLICT, "body.set_policy.policy.version")
	s.expect(s.One(vote(s.administrator, third)), pb.Code_CODE_OK)
	// Votes for a version that has passed are not votes for the next one.
	if v := s.voteFor(3, sim.Lakeside); v.GetVote() != nil || s.policy().GetPolicy().GetVersion() != 2 {
		t.Fatalf("%v %v", v, s.policy())
	}
	proposed, err := s.query(&pb.Query{Query: &pb.Query_GetKeys{GetKeys: &pb.GetKeys{Keys: []string{state.PolicyVoteKey(3, sim.Mercy)}}}})
	if err != nil || !proto.Equal(s.voteFor(3, sim.Mercy).GetPolicy(), third) || len(proposed.GetValues()[0]) == 0 {
		t.Fatalf("what is proposed can be read: %v %v", proposed, err)
	}
}
