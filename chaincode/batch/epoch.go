package batch

import (
	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// EpochMs is how long an epoch is: a minute.
const EpochMs = 60 * 1000

// epoch that a moment is in.
func (call Call) epoch() int64 { return call.TimeMs / EpochMs }

// witnessKey is the key of the epoch that a batch rests on: the one before its own, which every member's peer knows by
// now.
func (call Call) witnessKey() string { return state.EpochKey(call.epoch() - 1) }

// checkTime bounds the time of a batch by what is committed. That the witness was read does the rest: once the epoch after
// the next has begun, Fabric finds a read conflict in whatever was endorsed before.
func checkTime(call Call, s *state.Overlay) *Failure {
	witness := state.Load[pb.Epoch](s, call.witnessKey()).GetNumber()
	switch before := call.epoch() - 1; {
	case witness > before:
		return fail(pb.Code_CODE_UNAVAILABLE, "epoch", "the channel is past the transaction's time: propose it anew")
	case witness < before:
		return fail(pb.Code_CODE_UNAVAILABLE, "epoch", "the channel does not know the transaction's time yet: call tick, then propose it anew")
	}
	return nil
}

// Tick begins the epoch of the transaction's time, so that what was endorsed two epochs ago can no longer be committed.
// It goes forward only, once an epoch. The endorsing members see to it that it goes no faster than their clocks.
func (rules *Rules) Tick(call Call, ledger state.Ledger) (writes []state.Write, err error) {
	defer recoverFault(&err)
	keys := callKeys(call)
	for number := range int64(state.EpochSlots) {
		keys = append(keys, state.EpochKey(number))
	}
	s, failure := fetchState(ledger, keys)
	if failure != nil {
		return nil, failure
	}
	if failure := admitCall(call, s); failure != nil {
		return nil, failure
	}
	now := call.epoch()
	for number := range int64(state.EpochSlots) {
		if state.Load[pb.Epoch](s, state.EpochKey(number)).GetNumber() >= now {
			return nil, fail(pb.Code_CODE_CONFLICT, "epoch", "this epoch has begun already")
		}
	}
	// The epoch before too, when nobody has told the time for a while: the batches of this epoch rest on it.
	for _, number := range []int64{now - 1, now} {
		if state.Load[pb.Epoch](s, state.EpochKey(number)).GetNumber() != number {
			s.Put(state.EpochKey(number), &pb.Epoch{Number: number})
		}
	}
	s.Commit()
	return s.Writes(), nil
}
