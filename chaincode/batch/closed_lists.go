package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// Closed lists of the contract: no state holds free text. A refused command lies in the block all the same, so whoever
// carries it checks these lists first (cbmdhi/protocol/words.py).
var (
	categories = []string{
		"demographics", "encounters", "conditions", "allergies", "observations", "medications",
		"procedures", "immunizations", "diagnostics", "documents", "imaging", "care-plans",
		"coverage", "provenance", "other",
	}
	purposes          = []string{"TREAT", "ETREAT", "HPAYMT", "HOPERAT", "HRESCH", "PATRQT", "PUBHLTH"}
	provisionActions  = []string{"read", "search", "history", "export", "event", "write"}
	delegationActions = []string{"read", "search", "history", "write"}
	accessActions     = []string{"read", "history", "export"}
	explainActions    = []string{"read", "search", "history", "export", "event", "write"}

	reviewReasons  = []string{"identity-verified", "document-mismatch", "duplicate", "withdrawn", "other"}
	suspendReasons = []string{reasonLostKey, "left", "misuse", "reinstated", "other"}
)

const (
	reasonLostKey = "lost-key"

	actionWrite   = "write"
	actionHistory = "history"
	// A PutRecord names no purpose: writing to the record is treatment, for consents and for delegations.
	purposeTreatment = "TREAT"
	purposeEmergency = "ETREAT"
)

func isRole(role pb.Role) bool {
	_, known := pb.Role_name[int32(role)]
	return known && role != pb.Role_ROLE_UNSPECIFIED
}

func isPurpose(code string) bool { return slices.Contains(purposes, code) }

// firstOffList tells where the first entry is that is not on the closed list; ok when all are.
func firstOffList(entries, list []string) (int, bool) {
	for i, entry := range entries {
		if !slices.Contains(list, entry) {
			return i, false
		}
	}
	return 0, true
}
