package vectors

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

const chunkBytes = 1 << 20

type sealingFile struct {
	Bind []struct {
		Parts []string
		Bound Hex `json:"bound_hex"`
	}
	Cids []struct {
		Codec, Cid string
		Block      Hex `json:"block_hex"`
	}
	Hpke struct {
		Keys map[string]struct {
			Private Hex `json:"private_key_hex"`
			Public  Hex `json:"public_key_hex"`
		}
		Sealed []struct {
			Label, To string
			BoundTo   []string `json:"bound_to"`
			Info      Hex      `json:"info_hex"`
			Plain     Hex      `json:"plain_hex"`
			Sealed    Hex      `json:"sealed_hex"`
		}
	}
	Envelopes []struct {
		Name, Patient string
		RecordID      string `json:"record_id"`
		Version       int
		Salt          Hex `json:"salt_hex"`
		Content       Hex `json:"content_hex"`
		ContentIs     struct {
			Byte  Hex `json:"byte_hex"`
			Times int
		} `json:"content_is"`
		Commitment  Hex      `json:"content_commitment_hex"`
		WriterKeyID string   `json:"writer_key_id"`
		WriterKey   Hex      `json:"writer_key_hex"`
		DataKey     Hex      `json:"data_key_hex"`
		Nonce       Hex      `json:"wrapping_nonce_hex"`
		Prefix      Hex      `json:"nonce_prefix_hex"`
		Header      Hex      `json:"header_hex"`
		ChunkCids   []string `json:"chunk_cids"`
		Root        Hex      `json:"root_block_hex"`
		Cid         string
	}
	Released []releasedContent
	Evidence struct {
		Patient, Reviewer string
		Plain             Hex    `json:"plain_hex"`
		Key               Hex    `json:"key_hex"`
		Nonce             Hex    `json:"nonce_hex"`
		Sealed            Hex    `json:"sealed_hex"`
		SealedEvidence    Hex    `json:"sealed_evidence_hex"`
		Cid               string `json:"evidence_cid"`
	} `json:"registration_evidence"`
}

func sealing(t *testing.T) (file sealingFile) {
	t.Helper()
	read(t, "sealing.json", &file)
	return file
}

func TestBindAndCids(t *testing.T) {
	file := sealing(t)
	for _, v := range file.Bind {
		if !bytes.Equal(bind(v.Parts...), v.Bound) {
			t.Errorf("bind(%q) = %x, want %x", v.Parts, bind(v.Parts...), v.Bound)
		}
	}
	codecs := map[string]byte{"raw": 0x55, "dag-cbor": 0x71}
	for _, v := range file.Cids {
		if got := cidOf(codecs[v.Codec], v.Block); got != v.Cid {
			t.Errorf("%s: %s, want %s", v.Codec, got, v.Cid)
		}
	}
	if len(file.Bind) == 0 || len(file.Cids) == 0 {
		t.Fatal("no vectors")
	}
}

// privateKey from its 96 bytes: a seed of ML-KEM-768, and an X25519 key.
func privateKey(t *testing.T, raw []byte) hpke.PrivateKey {
	t.Helper()
	if len(raw) != 96 {
		t.Fatalf("a private key has 96 bytes, not %d", len(raw))
	}
	pq, errPQ := mlkem.NewDecapsulationKey768(raw[:64])
	classic, errClassic := ecdh.X25519().NewPrivateKey(raw[64:])
	if errPQ != nil || errClassic != nil {
		t.Fatal(errPQ, errClassic)
	}
	key, err := hpke.NewHybridPrivateKey(pq, classic)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestHpke(t *testing.T) {
	file := sealing(t)
	if len(file.Hpke.Sealed) != 5 {
		t.Fatal("a vector for each label that a client meets")
	}
	for _, v := range file.Hpke.Sealed {
		private := privateKey(t, file.Hpke.Keys[v.To].Private)
		equal(t, v.Label+": public key", private.PublicKey().Bytes(), file.Hpke.Keys[v.To].Public)
		info := labelled(v.Label, bind(v.BoundTo...))
		equal(t, v.Label+": info", info, v.Info)
		plain, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, v.Sealed)
		if err != nil {
			t.Fatalf("%s does not open: %v", v.Label, err)
		}
		equal(t, v.Label, plain, v.Plain)
		if _, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), info[:len(info)-1], v.Sealed); err == nil {
			t.Errorf("%s opens for another place", v.Label)
		}
	}
}

func gcm(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

func field(number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), value)
}

func count(number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), value)
}

// TestEnvelopes seals each content anew from what chance gave, and gets the same blocks.
func TestEnvelopes(t *testing.T) {
	file := sealing(t)
	if len(file.Envelopes) != 2 {
		t.Fatal("one of a single chunk, one of several")
	}
	for _, v := range file.Envelopes {
		content := []byte(v.Content)
		if v.ContentIs.Times > 0 {
			content = bytes.Repeat(v.ContentIs.Byte, v.ContentIs.Times)
		}
		plain := slices.Concat(v.Salt, content)
		commitment := sha256.Sum256(plain)
		equal(t, v.Name+": commitment", commitment[:], v.Commitment)
		place := bind(v.Patient, v.RecordID, strconv.Itoa(v.Version))

		bound := slices.Concat(bind("cbmdhi/envelope-key/v1", v.WriterKeyID), place)
		wrapped := gcm(t, v.WriterKey).Seal(slices.Clone(v.Nonce), v.Nonce, v.DataKey, bound)
		header := slices.Concat(count(1, 1), field(2, []byte(v.WriterKeyID)), field(3, wrapped), field(4, v.Prefix), count(5, chunkBytes))
		equal(t, v.Name+": header", header, v.Header)

		var chunks [][]byte
		for i, chunk := range slices.Collect(slices.Chunk(plain, chunkBytes)) {
			last := byte(0)
			if (i+1)*chunkBytes >= len(plain) {
				last = 1
			}
			nonce := slices.Concat(v.Prefix, []byte{0, 0, 0, byte(i), last})
			bound := slices.Concat(bind("cbmdhi/envelope-chunk/v1", string(header)), place, bind(strconv.Itoa(i), string([]byte{last})))
			chunks = append(chunks, gcm(t, v.DataKey).Seal(nil, nonce, chunk, bound))
		}
		root := field(1, header)
		if len(chunks) == 1 {
			root = append(root, field(2, chunks[0])...)
		} else {
			for i, chunk := range chunks {
				root = append(root, field(3, binaryCid(0x55, chunk))...)
				if cidOf(0x55, chunk) != v.ChunkCids[i] {
					t.Errorf("%s: chunk %d is another", v.Name, i)
				}
			}
		}
		equal(t, v.Name+": root block", root, v.Root)
		if cidOf(0x55, root) != v.Cid {
			t.Errorf("%s: CID %s, want %s", v.Name, cidOf(0x55, root), v.Cid)
		}
	}
}

func TestEvidenceOfARegistration(t *testing.T) {
	v := sealing(t).Evidence
	if !json.Valid(v.Plain) {
		t.Error("the evidence is a JSON object")
	}
	associated := labelled("cbmdhi/evidence/v1", []byte(v.Patient))
	ciphertext := gcm(t, v.Key).Seal(slices.Clone(v.Nonce), v.Nonce, v.Plain, associated)
	forReviewer := slices.Concat(field(1, []byte(v.Reviewer)), field(2, v.Sealed))
	equal(t, "SealedEvidence", slices.Concat(field(1, ciphertext), field(2, forReviewer)), v.SealedEvidence)
	if cidOf(0x55, v.SealedEvidence) != v.Cid {
		t.Errorf("CID %s, want %s", cidOf(0x55, v.SealedEvidence), v.Cid)
	}
}

type releasedContent struct {
	Name, Check, Cid string
	Commitment       Hex   `json:"content_commitment_hex"`
	Blocks           []Hex `json:"blocks_hex"`
}

// fields of a message, each as often as it is there.
func fields(raw []byte) map[protowire.Number][][]byte {
	found := map[protowire.Number][][]byte{}
	for len(raw) > 0 {
		number, kind, tag := protowire.ConsumeTag(raw)
		check(tag > 0, "parse")
		length := protowire.ConsumeFieldValue(number, kind, raw[tag:])
		check(length >= 0, "parse")
		if value, read := protowire.ConsumeBytes(raw[tag:]); kind == protowire.BytesType && read > 0 {
			found[number] = append(found[number], value)
		}
		raw = raw[tag+length:]
	}
	return found
}

// opened is docs/verification.md, "The content"; one check may be left out.
func (file *sealingFile) opened(t *testing.T, v releasedContent, without string) (err error) {
	defer tell(&err)
	holds := func(name failed, found bool) { check(found || string(name) == without, name) }
	proven := file.Envelopes[0]
	holds("root-cid", cidOf(0x55, v.Blocks[0]) == v.Cid)
	root := fields(v.Blocks[0])
	header, chunks := root[1][0], root[2]
	if named := root[3]; len(named) > 0 {
		check(len(named) == len(v.Blocks)-1, "chunk-cid")
		for i, block := range v.Blocks[1:] {
			holds("chunk-cid", bytes.Equal(binaryCid(0x55, block), named[i]))
			chunks = append(chunks, block)
		}
	}
	var dataKey []byte
	for _, sealed := range file.Hpke.Sealed {
		if sealed.Label == "cbmdhi/data-key/v1" {
			private := privateKey(t, file.Hpke.Keys[sealed.To].Private)
			dataKey, err = hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), sealed.Info, sealed.Sealed)
			check(err == nil, "data key")
		}
	}
	place := bind(proven.Patient, proven.RecordID, strconv.Itoa(proven.Version))
	var plain []byte
	for i, chunk := range chunks {
		last := byte(0)
		if i == len(chunks)-1 {
			last = 1
		}
		nonce := slices.Concat(fields(header)[4][0], []byte{0, 0, 0, byte(i), last})
		bound := slices.Concat(bind("cbmdhi/envelope-chunk/v1", string(header)), place, bind(strconv.Itoa(i), string([]byte{last})))
		plain, err = gcm(t, dataKey).Open(plain, nonce, chunk, bound)
		check(err == nil, "does not decrypt")
	}
	commitment := sha256.Sum256(plain)
	holds("commitment", bytes.Equal(commitment[:], v.Commitment))
	var resource struct {
		ResourceType, ID string
		Meta             struct{ VersionID string }
		Subject          struct{ Reference string }
	}
	check(json.Unmarshal(plain[32:], &resource) == nil, "parse")
	holds("resource", resource.ResourceType == "Observation" &&
		(resource.ID == "" || resource.ID == proven.RecordID) &&
		(resource.Meta.VersionID == "" || resource.Meta.VersionID == strconv.Itoa(proven.Version)) &&
		(resource.Subject.Reference == "" || resource.Subject.Reference == "Patient/"+proven.Patient))
	return nil
}

func TestReleasedContent(t *testing.T) {
	file := sealing(t)
	holding, bad := 0, map[string]bool{}
	for _, v := range file.Released {
		err := file.opened(t, v, "")
		if v.Check == "" {
			holding++
			if err != nil {
				t.Errorf("%s: fails %v", v.Name, err)
			}
			continue
		}
		bad[v.Check] = true
		if !errors.Is(err, failed(v.Check)) {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Check)
		}
		if err := file.opened(t, v, v.Check); err != nil {
			t.Errorf("%s: it does not fail by %s alone: without it %v", v.Name, v.Check, err)
		}
	}
	if holding != 1 || len(bad) != 4 {
		t.Fatal("no vectors")
	}
}
