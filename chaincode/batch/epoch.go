package batch

import (
	"strconv"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// EpochMs is how long an epoch is: a minute.
const EpochMs = 60 * 1000

// epochSlots is how many epochs the state holds. What a batch reads is written again only by the third epoch after it:
// the epochs that begin while it is on its way to its block do not get in its way.
const epochSlots = 3

// EpochKey of the epoch with a number.
func EpochKey(number int64) string { return epochPrefix + strconv.FormatInt(number%epochSlots, 10) }

// epoch that a moment is in.
func (call Call) epoch() int64 { return call.TimeMs / EpochMs }

// witnessKey is the epoch that a batch rests on: the one before its own, which has begun long enough ago for every
// member's peer to know.
func (call Call) witnessKey() string { return EpochKey(call.epoch() - 1) }

// checkTime bounds the time of a batch by what is committed. Its reading the witness does the rest: once the epoch after
// the next has begun, whatever was endorsed before is a conflict for Fabric.
func checkTime(call Call, s *state) *Failure {
	witness := load[pb.Epoch](s, call.witnessKey()).GetNumber()
	switch before := call.epoch() - 1; {
	case witness > before:
		return fail(pb.Code_CODE_UNAVAILABLE, "epoch", "the channel is past the transaction's time: propose it anew")
	case witness < before:
		return fail(pb.Code_CODE_UNAVAILABLE, "epoch", "the channel does not know the transaction's time yet: call tick, then propose it anew")
	}
	return nil
}

// Tick begins the epoch of the transaction's time, so that what was endorsed two epochs ago can no longer be committed.
// It goes forward only and once an epoch; that it is no faster than the members' clocks, they see to when they endorse it.
func (rules *Rules) Tick(call Call, ledger Ledger) (writes []Write, err error) {
	defer recoverFault(&err)
	keys := callKeys(call)
	for number := range int64(epochSlots) {
		keys = append(keys, EpochKey(number))
	}
	s, failure := fetchState(ledger, keys)
	if failure != nil {
		return nil, failure
	}
	if failure := admitCall(call, s); failure != nil {
		return nil, failure
	}
	now := call.epoch()
	for number := range int64(epochSlots) {
		if load[pb.Epoch](s, EpochKey(number)).GetNumber() >= now {
			return nil, fail(pb.Code_CODE_CONFLICT, "epoch", "this epoch has begun already")
		}
	}
	// The one before as well, after a while in which nobody told the time: this epoch's batches rest on it.
	for _, number := range []int64{now - 1, now} {
		if load[pb.Epoch](s, EpochKey(number)).GetNumber() != number {
			s.put(EpochKey(number), &pb.Epoch{Number: number})
		}
	}
	s.keep()
	return s.writes(), nil
}
