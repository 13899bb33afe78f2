package batch_test

import (
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

// consentAs is signed for the consents as they are now, and may be held back.
func (s *story) consentAs(id string, effect pb.Effect) *pb.SignedCommand {
	return s.patient.Sign(s.consentOf(id, effect, ""))
}

func (s *story) consentOf(id string, effect pb.Effect, follows string) *pb.CommandBody {
	return sim.Body(&pb.Consent{
		ConsentId: id, Patient: s.patient.Address, Provisions: []*pb.Provision{{Effect: effect}}, Follows: follows,
	})
}

func TestAConsentHeldBackByItsCarrierDoesNotReplaceANewerDeny(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	id := s.ID()
	held := s.consentAs(id, pb.Effect_EFFECT_PERMIT)
	s.expect(s.One(s.consentAs(id, pb.Effect_EFFECT_DENY)), pb.Code_CODE_OK)
	s.untouched(func() { s.expectAt(s.One(held), pb.Code_CODE_CONFLICT, "body.consent.follows") })
	s.expect(s.One(s.stranger.Sign(sim.Read(s.patient, record, "TREAT"))), pb.Code_CODE_FORBIDDEN)
}

func TestAConsentHeldBackByItsCarrierDoesNotComeBackAfterTheRevoke(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	id := s.patient.Permit(&pb.Provision{})
	held := s.consentAs(id, pb.Effect_EFFECT_PERMIT)
	s.expect(s.One(s.revoke(id)), pb.Code_CODE_OK)
	s.untouched(func() { s.expectAt(s.One(held), pb.Code_CODE_CONFLICT, "body.consent.follows") })
	s.expect(s.One(s.stranger.Sign(sim.Read(s.patient, record, "TREAT"))), pb.Code_CODE_FORBIDDEN)
}

func TestARevokeHeldBackByItsCarrierDoesNotEndWhatWasGivenSince(t *testing.T) {
	s := begin(t)
	id := s.patient.Permit(&pb.Provision{})
	held := s.revoke(id)
	s.expect(s.One(s.consentAs(id, pb.Effect_EFFECT_DENY)), pb.Code_CODE_OK)
	s.untouched(func() { s.expectAt(s.One(held), pb.Code_CODE_CONFLICT, "body.revoke_consent.follows") })
	if len(s.consents().GetConsents()) != 1 {
		t.Fatal("the deny is gone")
	}
}

func TestACarrierThatLiesAboutTheConsentsGetsNothingThatFollowsALaterChange(t *testing.T) {
	s := begin(t)
	id := s.patient.Permit(&pb.Provision{})
	// A version would be easily told in advance: the next is one more. The change that will be made is not.
	held := s.patient.Sign(s.consentOf(id, pb.Effect_EFFECT_PERMIT, s.ID()))
	s.expect(s.One(s.consentAs(id, pb.Effect_EFFECT_DENY)), pb.Code_CODE_OK)
	s.expectAt(s.One(held), pb.Code_CODE_CONFLICT, "body.consent.follows")
}

func TestTheFirstConsentFollowsNoneAndOnlyOnce(t *testing.T) {
	s := begin(t)
	one, other := s.consentAs(s.ID(), pb.Effect_EFFECT_PERMIT), s.consentAs(s.ID(), pb.Effect_EFFECT_PERMIT)
	s.expect(s.One(one), pb.Code_CODE_OK)
	s.expect(s.One(s.revoke(s.consents().GetConsents()[0].GetConsentId())), pb.Code_CODE_OK)
	// The document is empty again, and yet it is not the one before the first.
	s.expectAt(s.One(other), pb.Code_CODE_CONFLICT, "body.consent.follows")
}

func TestWithinAGroupAConsentFollowsTheOneBeforeIt(t *testing.T) {
	s := begin(t)
	id := s.ID()
	good := s.Group(
		sim.Part{By: s.patient, Body: s.consentOf(id, pb.Effect_EFFECT_PERMIT, "")},
		sim.Part{By: s.patient, Body: s.consentOf(s.ID(), pb.Effect_EFFECT_PERMIT, "")},
	)
	s.expectAll(s.Do(good...), pb.Code_CODE_OK, pb.Code_CODE_OK)
	now := s.consents().GetChangedBy()
	both := s.Group(
		sim.Part{By: s.patient, Body: s.consentOf(id, pb.Effect_EFFECT_DENY, now)},
		sim.Part{By: s.patient, Body: s.consentOf(s.ID(), pb.Effect_EFFECT_DENY, now)},
	)
	s.expectAll(s.Do(both...), pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_CONFLICT)
}

func TestTheIdOfARevokedConsentIsNeverGivenAgain(t *testing.T) {
	s := begin(t)
	id := s.patient.Permit(&pb.Provision{})
	revoke := s.revoke(id)
	s.expect(s.One(revoke), pb.Code_CODE_OK)
	s.untouched(func() {
		s.expectAt(s.One(s.consentAs(id, pb.Effect_EFFECT_PERMIT)), pb.Code_CODE_CONFLICT, "body.consent.consent_id")
	})
	s.untouched(func() { s.expect(s.One(s.revoke(id)), pb.Code_CODE_NOT_FOUND) })
	// Within one batch too, and one patient does not use up another's ids.
	again := s.patient.Permit(&pb.Provision{})
	group := s.Group(
		sim.Part{By: s.patient, Body: sim.Body(&pb.RevokeConsent{ConsentId: again, Patient: s.patient.Address})},
		sim.Part{By: s.patient, Body: s.consentOf(again, pb.Effect_EFFECT_PERMIT, "")},
	)
	s.expectAll(s.Do(group...), pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_CONFLICT)
	other := s.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expect(s.One(other.Sign(sim.Body(&pb.Consent{
		ConsentId: id, Patient: other.Address, Provisions: []*pb.Provision{{Effect: pb.Effect_EFFECT_PERMIT}},
	}))), pb.Code_CODE_OK)
}

func TestWhatAConsentFollowsIsACommandId(t *testing.T) {
	s := begin(t)
	s.expectAt(s.One(s.patient.Sign(s.consentOf(s.ID(), pb.Effect_EFFECT_PERMIT, "1"))), pb.Code_CODE_INVALID, "body.consent.follows")
	s.expectAt(s.One(s.patient.Sign(sim.Body(&pb.RevokeConsent{
		ConsentId: s.ID(), Patient: s.patient.Address, Follows: "the last",
	}))), pb.Code_CODE_INVALID, "body.revoke_consent.follows")
}
