package vectors

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha256"
	"errors"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
)

type releaseFile struct {
	Reader    string
	Private   Hex    `json:"reader_private_key_hex"`
	CommandID string `json:"command_id"`
	DataKey   Hex    `json:"data_key_hex"`
	Salt      Hex    `json:"salt_hex"`
	Content   Hex    `json:"content_hex"`
	Cases     []struct {
		Name, Check string
		Valid       bool
		Record      Hex `json:"record_hex"`
		Response    Hex `json:"open_response_hex"`
	}
}

// opened is docs/verification.md, "The content", up to the decryption: the OpenResponse of a proven version.
func (file *releaseFile) opened(t *testing.T, record *pb.RecordVersion, response []byte) (plain []byte, err error) {
	defer tell(&err)
	given := fields(response)
	blocks := given[1]
	check(cidOf(0x55, blocks[0]) == record.GetContent().GetCid(), "root-cid")
	root := fields(blocks[0])
	header, chunks := root[1][0], root[2]
	check(len(root[3]) == len(blocks)-1, "chunk-cid")
	for i, block := range blocks[1:] {
		check(bytes.Equal(binaryCid(0x55, block), root[3][i]), "chunk-cid")
		chunks = append(chunks, block)
	}
	number := strconv.Itoa(int(record.GetVersion()))
	info := labelled("cbmdhi/data-key/v1", bind(file.Reader, file.CommandID, record.GetRecordId(), number))
	dataKey, err := hpke.Open(privateKey(t, file.Private), hpke.HKDFSHA256(), hpke.AES256GCM(), info, given[2][0])
	check(err == nil, "data-key")
	equal(t, "the data key", dataKey, file.DataKey)
	place := bind(record.GetPatient(), record.GetRecordId(), number)
	for i, chunk := range chunks {
		last := byte(0)
		if i == len(chunks)-1 {
			last = 1
		}
		nonce := slices.Concat(fields(header)[4][0], []byte{0, 0, 0, byte(i), last})
		bound := slices.Concat(bind("cbmdhi/envelope-chunk/v1", string(header)), place, bind(strconv.Itoa(i), string([]byte{last})))
		plain, err = gcm(t, dataKey).Open(plain, nonce, chunk, bound)
		check(err == nil, "chunks")
	}
	return plain, nil
}

func TestKeyRelease(t *testing.T) {
	var file releaseFile
	read(t, "release.json", &file)
	tried := map[string]int{}
	for _, v := range file.Cases {
		var record pb.RecordVersion
		if err := proto.Unmarshal(v.Record, &record); err != nil {
			t.Fatal(err)
		}
		plain, err := file.opened(t, &record, v.Response)
		tried[v.Check]++
		if !v.Valid {
			if !errors.Is(err, failed(v.Check)) {
				t.Errorf("%s: %v, want %s", v.Name, err, v.Check)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		equal(t, v.Name, plain, slices.Concat(file.Salt, file.Content))
		commitment := sha256.Sum256(plain)
		equal(t, v.Name+": commitment", commitment[:], record.GetContentCommitment())
	}
	if tried[""] != 2 || tried["data-key"] < 6 || tried["chunks"] < 8 {
		t.Fatal("no vectors")
	}
}
