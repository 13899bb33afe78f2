// Command mend makes a copy of the Fabric module in which an ordered envelope that nobody validated cannot end a peer
// (docs/adr/0031): go run ./mend COPY, in the folder of this module. COPY is replaced; COPY.mod beside it builds from it.
//
// Each edit names text that is in its file exactly once. Where it is not, nothing is made: another release of Fabric
// has to be looked at again.
package main

import (
	_ "embed"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "github.com/hyperledger/fabric"

//go:embed settled.go.txt
var settled string

type edit struct{ file, old, new string }

const (
	messages   = "core/common/validation/msgvalidation.go"
	keyLevel   = "core/common/validation/statebased/validator_keylevel.go"
	parameters = "core/common/validation/statebased/vpmanagerimpl.go"
	validator  = "core/committer/txvalidator/v20/validator.go"
	dispatcher = "core/committer/txvalidator/v20/plugindispatcher/dispatcher.go"
)

var edits = []edit{
	// An action of which nothing was endorsed.
	before(messages, "\t\t// extract the proposal response payload\n",
		"\t\tif ccActionPayload.Action == nil {\n\t\t\treturn errors.New(\"nil endorsed action\")\n\t\t}\n\n"),

	// What is looked at before anybody has validated it. Whatever it is, those behind it are told: they wait.
	after(keyLevel, "extractDependenciesForTx(blockNum, txNum uint64, envelopeBytes []byte) {\n",
		"\tvar results []byte\n"+
			"\tdefer func() { klv.vpmgr.ExtractValidationParameterDependency(blockNum, txNum, results) }()\n\n"),
	before(keyLevel, "\tcap, err := protoutil.UnmarshalChaincodeActionPayload(tx.Actions[0].Payload)\n",
		"\tif len(tx.Actions) == 0 {\n"+
			"\t\tlogger.Warningf(\"no action, skipping tx at height (%d,%d)\", blockNum, txNum)\n\t\treturn\n\t}\n\n"),
	{keyLevel, "(cap.Action.ProposalResponsePayload)", "(cap.GetAction().GetProposalResponsePayload())"},
	{
		keyLevel,
		"\tklv.vpmgr.ExtractValidationParameterDependency(blockNum, txNum, respPayload.Results)\n",
		"\tresults = respPayload.Results\n",
	},

	// One that was refused before its namespace was asked: who waits for what the namespace says is told, too.
	before(keyLevel, "\tklv.blockDep.mutex.Lock()\n", "\tlistens(block, klv.vpmgr)\n\n"),
	after(parameters, "\tdepInserted         chan struct{}\n", "\tsettled             bool\n"),
	after(parameters, "\tfor !ok {\n", "\t\tif d.settled {\n\t\t\treturn errNeverAsked\n\t\t}\n"),
	before(validator, "\tstartValidation := time.Now() // timer to log Validate block duration\n",
		"\tdefer statebased.Forget(block)\n"),
	after(validator, "\t\tres := <-results\n", "\t\tstatebased.Settled(block, uint64(res.tIdx))\n"),
	after(validator, "\t\"github.com/hyperledger/fabric/core/common/validation\"\n",
		"\t\"github.com/hyperledger/fabric/core/common/validation/statebased\"\n"),

	// Which namespaces were asked before one refused must be the same at every peer.
	{
		dispatcher,
		"\tfor ns := range wrNamespace {\n",
		"\tfor _, ns := range slices.Sorted(maps.Keys(wrNamespace)) {\n",
	},
	after(dispatcher, "\t\"fmt\"\n", "\t\"maps\"\n\t\"slices\"\n"),
}

func before(file, place, added string) edit { return edit{file, place, added + place} }

func after(file, place, added string) edit { return edit{file, place, place + added} }

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("mend COPY")
	}
	if err := mend(os.Args[1]); err != nil {
		log.Fatalf("mend: %v", err)
	}
}

func mend(folder string) error {
	source, err := downloaded()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.CopyFS(folder, os.DirFS(source)); err != nil {
		return err
	}
	if err := apply(folder); err != nil {
		return err
	}
	return describe(folder)
}

// downloaded is where Go keeps the module, which it has compared with go.sum.
func downloaded() (string, error) {
	if output, err := exec.Command("go", "mod", "download", module).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go mod download: %w: %s", err, output)
	}
	output, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	return strings.TrimSpace(string(output)), err
}

func apply(folder string) error {
	for _, edit := range edits {
		path := filepath.Join(folder, edit.file)
		found, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if count := strings.Count(string(found), edit.old); count != 1 {
			return fmt.Errorf("%s has %d times what it should have once: %q", edit.file, count, edit.old)
		}
		mended := strings.Replace(string(found), edit.old, edit.new, 1)
		if err := os.WriteFile(path, []byte(mended), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(folder, filepath.Dir(keyLevel), "settled.go"), []byte(settled), 0o644)
}

// describe writes a go.mod and a go.sum that take the module from the copy: go build -modfile=COPY.mod
func describe(folder string) error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	absolute, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	// From here, so that a program says the same of itself wherever its checkout lies.
	relative, err := filepath.Rel(here, absolute)
	if err != nil {
		return err
	}
	ours, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	ours = fmt.Appendf(ours, "\nreplace %s => %s\n", module, filepath.ToSlash(relative))
	if err := os.WriteFile(folder+".mod", ours, 0o644); err != nil {
		return err
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		return err
	}
	return os.WriteFile(folder+".sum", sums, 0o644)
}
