package batch_test

import (
	"strings"
	"testing"
	"time"

	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

// tick has the ledger service of the calling member tell the time, and commits what it wrote.
func (s *story) tick() error {
	writes, err := s.Rules.Tick(s.Call(), sim.Ledger{World: s.World})
	for _, write := range writes {
		s.State[write.Key] = write.Value
	}
	return err
}

func (s *story) refuses(err error, message string) {
	s.t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), message) {
		s.t.Fatalf("error %v, want %s", err, message)
	}
}

// unattended is a channel that nobody has told the time, at the beginning of an epoch.
func unattended(t *testing.T) *story {
	s := begin(t)
	s.Unattended = true
	for number := range int64(3) {
		delete(s.State, state.EpochKey(number))
	}
	return s
}

func TestABatchIsJudgedAtATimeThatTheChannelKnows(t *testing.T) {
	s := unattended(t)
	do := func() error {
		_, err := s.Endorse(sim.Item(s.patient.Sign(s.consentBody())))
		return err
	}
	s.refuses(do(), "CODE_UNAVAILABLE: epoch: ")
	if err := s.tick(); err != nil {
		t.Fatal(err)
	}
	began := s.Now
	for _, after := range []time.Duration{0, 59 * time.Second, 60 * time.Second, 119 * time.Second} {
		s.Now = began.Add(after)
		if err := do(); err != nil {
			t.Fatalf("%v after the epoch began: %v", after, err)
		}
	}
	for _, after := range []time.Duration{-61 * time.Second, -time.Hour, 120 * time.Second, time.Hour} {
		s.Now = began.Add(after)
		s.refuses(do(), "CODE_UNAVAILABLE: epoch: ")
	}
	// After a while in which nothing happened, one tick is enough.
	s.Now = began.Add(time.Hour)
	if err := s.tick(); err != nil {
		t.Fatal(err)
	}
	if err := do(); err != nil {
		t.Fatal(err)
	}
	// And a consent that ended in that hour is not brought back by an earlier time.
	s.Now = began
	s.refuses(do(), "CODE_UNAVAILABLE: epoch: ")
}

func TestWhatWasEndorsedIsCommittedWithinTwoMinutesOrNever(t *testing.T) {
	s := unattended(t)
	if err := s.tick(); err != nil {
		t.Fatal(err)
	}
	// The last moment of an epoch, and the first of it.
	for _, into := range []time.Duration{0, 59*time.Second + 999*time.Millisecond} {
		at := s.Now.Add(into)
		s.Now = at
		if _, err := s.Endorse(sim.Item(s.patient.Sign(s.consentBody()))); err != nil {
			t.Fatal(err)
		}
		read := map[string]string{}
		for _, key := range s.ReadKeys {
			read[key] = string(s.State[key])
		}
		conflicts := func() bool {
			for key, value := range read {
				if string(s.State[key]) != value {
					return true
				}
			}
			return false
		}
		// The next epoch disturbs nothing that is on its way; the one after it ends all of it.
		s.Now = s.Now.Truncate(time.Minute).Add(time.Minute)
		if err := s.tick(); err != nil || conflicts() {
			t.Fatalf("%v into its epoch, endorsed and in the way of the next: %v", into, err)
		}
		s.Now = s.Now.Add(time.Minute)
		if err := s.tick(); err != nil || !conflicts() {
			t.Fatalf("%v into its epoch, endorsed and still to be committed %v later: %v", into, s.Now.Sub(at), err)
		}
	}
}

func TestTheTimeGoesForwardOnlyAndOnceAnEpoch(t *testing.T) {
	s := unattended(t)
	if err := s.tick(); err != nil {
		t.Fatal(err)
	}
	began := s.Now
	for _, after := range []time.Duration{0, 30 * time.Second, 59 * time.Second, -time.Minute, -time.Hour} {
		s.Now = began.Add(after)
		s.refuses(s.tick(), "CODE_CONFLICT: epoch: ")
	}
	s.Now = began.Add(time.Minute)
	s.Creator = "NowhereMSP"
	s.refuses(s.tick(), "CODE_FORBIDDEN: creator: ")
	s.Creator = sim.Lakeside
	if err := s.tick(); err != nil {
		t.Fatal(err)
	}
}
