package contract

import (
	"strings"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"

	"cbmdhi/chaincode/batch"
)

// ledger lets the rules read through the stub.
type ledger struct {
	stub       shim.ChaincodeStubInterface
	creatorMSP string
}

func (l *ledger) States(keys []string) ([][]byte, error) {
	return l.stub.GetMultipleStates(keys...)
}

func (l *ledger) Sealed(keys []string) ([][]byte, error) {
	return l.stub.GetMultiplePrivateData("_implicit_org_"+l.creatorMSP, keys...)
}

// Members walks the member documents; a range, so that a member admitted meanwhile invalidates a
// vote that was counted without it.
func (l *ledger) Members() ([]string, error) {
	end := strings.TrimSuffix(batch.MemberPrefix, "/") + "0" // "0" follows "/".
	documents, err := l.stub.GetStateByRange(batch.MemberPrefix, end)
	if err != nil {
		return nil, err
	}
	defer documents.Close()
	var members []string
	for documents.HasNext() {
		document, err := documents.Next()
		if err != nil {
			return nil, err
		}
		members = append(members, strings.TrimPrefix(document.GetKey(), batch.MemberPrefix))
	}
	return members, nil
}
