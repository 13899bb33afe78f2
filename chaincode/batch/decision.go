package batch

import (
	"strings"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/state"
)

// policyInForce keeps the parsed policies of a PolicyState, which a SetPolicy may replace in the middle of a batch.
type policyInForce struct {
	state   *pb.PolicyState
	session *policy.Session
}

func (r *run) policyDocument() *pb.PolicyDocument {
	return state.Load[pb.PolicyState](r.state, state.PolicyKey).GetPolicy()
}

func (r *run) policies() *policy.Session {
	current := state.Load[pb.PolicyState](r.state, state.PolicyKey)
	if r.inForce.state != current {
		set, err := r.rules.policies.Get(current.GetPolicy().GetCedar())
		if err != nil {
			panic(state.Fault{Reason: "the policy in force does not parse: this chaincode is too old or too new for it"})
		}
		r.inForce = policyInForce{state: current, session: set.Session()}
	}
	return r.inForce.session
}

// question is what is asked about one record.
type question struct {
	actor     *pb.IdentityDocument
	delegated bool
	action    string
	purpose   string
	record    policy.Record
}

// askPolicy asks policies and consents, and returns what the answer rests on. A refusal says why and what to do.
func (r *run) askPolicy(q question) (*pb.DecisionBasis, *refusal) {
	patient := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(q.record.Patient))
	consents := state.Load[pb.ConsentDocument](r.state, state.ConsentKey(q.record.Patient))
	q.record.PatientMSP = patient.GetHomeMsp()
	for _, custodian := range patient.GetCustodians() {
		q.record.Custodians = append(q.record.Custodians, custodian.GetMsp())
	}
	decision := r.policies().Decide(&policy.Request{
		Principal: q.actor, Action: q.action, Purpose: q.purpose, Record: q.record,
		Consents: consents, Delegated: q.delegated, NowMs: r.call.TimeMs,
	})
	basis := &pb.DecisionBasis{
		PolicyVersion:  r.policyDocument().GetVersion(),
		Policies:       decision.Policies,
		ConsentVersion: consents.GetVersion(),
		ConsentId:      decision.Consent.ConsentID,
	}
	if decision.Permit {
		return basis, nil
	}
	return basis, forbidden("", "%s", reasonOf(q, decision))
}

func reasonOf(q question, d policy.Decision) string {
	named := strings.Join(d.Policies, ", ")
	switch {
	case d.Faulty:
		return "policy " + named + " could not be evaluated, so nothing is permitted: ask an administrator to correct it"
	case d.Denied:
		return "the patient's consent denies " + q.action + " for " + q.purpose + ": ask the patient to change it"
	case len(d.Policies) > 0:
		return "policy " + named + " forbids " + q.action + " for " + q.purpose + ": act within it, or ask an administrator"
	case q.action == policy.ActionBreakGlass:
		return "no policy permits this role to break the glass: ask a clinician"
	case q.action == actionWrite:
		return "the author's member does not treat this patient and no consent of the patient permits write: " +
			"ask the patient for consent"
	}
	return "no consent of the patient permits " + q.action + " for " + q.purpose + ": ask the patient for consent"
}
