package contract

import (
	"math"
	"strings"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"

	"cbmdhi/chaincode/state"
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
	return l.stub.GetMultiplePrivateData(state.ImplicitCollection(l.creatorMSP), keys...)
}

// Members walks the member documents; a range, so that a member admitted meanwhile invalidates a
// vote that was counted without it.
func (l *ledger) Members() ([]string, error) {
	keys, err := l.Keys(state.MemberPrefix, "", math.MaxInt)
	for i, key := range keys {
		keys[i] = strings.TrimPrefix(key, state.MemberPrefix)
	}
	return keys, err
}

// Keys walks a range, as far as it is asked for.
func (l *ledger) Keys(prefix, after string, most int) ([]string, error) {
	begin, end := prefix, strings.TrimSuffix(prefix, "/")+"0" // "0" follows "/".
	if after != "" {
		begin = after + "\x00" // Nothing is between them.
	}
	documents, err := l.stub.GetStateByRange(begin, end)
	if err != nil {
		return nil, err
	}
	defer documents.Close()
	var keys []string
	for documents.HasNext() && len(keys) < most {
		document, err := documents.Next()
		if err != nil {
			return nil, err
		}
		keys = append(keys, document.GetKey())
	}
	return keys, nil
}
