package batch

import (
	pb "cbmdhi/chaincode/gen/commandv1"
)

// Limits of time, in milliseconds.
const (
	maxLifetimeMs           = 10 * 60 * 1000
	maxEmergencyLifetimeMs  = 30 * 24 * 60 * 60 * 1000
	maxClockAheadMs         = 2 * 60 * 1000
	maxDelegationLifetimeMs = 12 * 60 * 60 * 1000
)

// period is how long something that was signed may be valid, and how its times are named in a refusal.
type period struct {
	lifetimeMs    int64
	prefix, limit string
}

var (
	commandPeriod    = period{maxLifetimeMs, "", "10 minutes: sign a fresh command"}
	emergencyPeriod  = period{maxEmergencyLifetimeMs, "", "30 days"}
	delegationPeriod = period{maxDelegationLifetimeMs, "delegation.", "12 hours: log in again"}
)

// period of a command. An emergency access has a longer one, since it waits for a majority.
func (c *decoded) period() period {
	if c.body.GetEmergencyAccess() != nil {
		return emergencyPeriod
	}
	return commandPeriod
}

type signedPeriod interface {
	GetIssuedAtMs() int64
	GetExpiresAtMs() int64
}

// checkEnd refuses what is not valid and never will be again.
func checkEnd(signed signedPeriod, now int64, p period) *refusal {
	issued, expires := signed.GetIssuedAtMs(), signed.GetExpiresAtMs()
	switch {
	case issued <= 0 || expires <= issued:
		return refuse(pb.Code_CODE_EXPIRED, p.prefix+"expires_at_ms", "does not follow issued_at_ms")
	case expires-issued > p.lifetimeMs:
		return refuse(pb.Code_CODE_EXPIRED, p.prefix+"expires_at_ms", "valid for longer than %s", p.limit)
	case expires <= now:
		return refuse(pb.Code_CODE_EXPIRED, p.prefix+"expires_at_ms", "expired: sign it anew")
	}
	return nil
}

// checkBeginning refuses what is not valid yet. It would be valid later, so that the refusal has to be remembered.
func checkBeginning(signed signedPeriod, now int64, p period) *refusal {
	if signed.GetIssuedAtMs() > now+maxClockAheadMs {
		return refuse(pb.Code_CODE_EXPIRED, p.prefix+"issued_at_ms", "more than 2 minutes in the future: check the signer's clock")
	}
	return nil
}
