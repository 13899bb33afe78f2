// Command mend makes a copy of the Fabric module in which an ordered envelope that nobody validated cannot end a peer,
// and a peer leaves an orderer that sends it nothing (docs/adr/0031): go run ./mend COPY, in the folder of this module.
// COPY is replaced; COPY.mod beside it builds from it.
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

//go:embed silent.go.txt
var silent string

//go:embed failed.go.txt
var failed string

type edit struct{ file, old, new string }

const (
	messages   = "core/common/validation/msgvalidation.go"
	keyLevel   = "core/common/validation/statebased/validator_keylevel.go"
	parameters = "core/common/validation/statebased/vpmanagerimpl.go"
	validator  = "core/committer/txvalidator/v20/validator.go"
	dispatcher = "core/committer/txvalidator/v20/plugindispatcher/dispatcher.go"
	deliverer  = "common/deliverclient/blocksprovider/deliverer.go"
	receiver   = "common/deliverclient/blocksprovider/block_receiver.go"
	delivery   = "core/deliverservice/deliveryclient.go"
	submit     = "internal/pkg/gateway/submit.go"
	collector  = "gossip/privdata/coordinator.go"
	preparer   = "core/ledger/kvledger/txmgmt/validation/batch_preparer.go"
)

// added are files of our own, by the file beside which they lie.
var added = map[string]struct{ name, text string }{
	keyLevel:  {"settled.go", settled},
	deliverer: {"silent.go", silent},
	submit:    {"failed.go", failed},
}

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

	// A peer whose orderer sends nothing asks another one, not the same again. Of Raft: for BFT upstream has its own.
	after(delivery, "\t\tInitialRetryInterval:  100 * time.Millisecond,\n",
		"\t\tSilence:               d.conf.DeliverServiceConfig.BlockCensorshipTimeoutKey,\n"),
	after(deliverer, "\tMaxRetryDurationExceededHandler MaxRetryDurationExceededHandler\n",
		"\n\t// An orderer that sends no block for so long is left for another one\n\tSilence time.Duration\n"+
			"\tasked   map[string]time.Time\n"),
	after(deliverer, "\ttotalDuration := time.Duration(0)\n", "\td.asked = map[string]time.Time{}\n"),
	{deliverer, "d.orderers.RandomEndpoint()", "d.another()"},
	after(deliverer, "\t\t\td.Logger.Warningf(\"Could not connect to ordering service: %s\", err)\n",
		"\t\t\td.failed(endpoint)\n"),
	after(deliverer, "\t\t\tendpoint:               endpoint,\n", "\t\t\tsilence:                d.Silence,\n"),
	{deliverer, "case *errRefreshEndpoint:", "case *errRefreshEndpoint, *errSilent:"},
	after(deliverer, "\t\t\t\td.Logger.Warningf(\"Failure in processing incoming messages: %s\", err)\n",
		"\t\t\t\td.failed(endpoint)\n"),
	after(receiver, "\t\"sync\"\n", "\t\"time\"\n"),
	after(receiver, "\tendpoint               *orderers.Endpoint\n", "\tsilence                time.Duration\n"),
	// Whoever breaks off says so once more, as a warning; whoever is left has done nothing.
	{receiver, "br.logger.Warningf(\"Encountered an error reading", "br.logger.Infof(\"Encountered an error reading"},
	before(receiver, "\t\tcase <-br.stopC:\n\t\t\tbr.logger.Infof(\"BlockReceiver got",
		"\t\tcase <-silent(br.silence):\n\t\t\terr = &errSilent{br.endpoint.Address}\n\t\t\tbreak RecvLoop\n"),

	// Nor does it submit to one that gave no answer, while there are others.
	{
		submit,
		"\tfor _, index := range rand.Perm(len(orderers)) {\n\t\torderer := orderers[index]\n",
		"\tfor _, orderer := range inTurn(orderers) {\n",
	},
	after(submit, "\t\t\terrDetails = append(errDetails, errorDetail(orderer.endpointConfig, err.Error()))\n",
		"\t\t\tfailed(orderer)\n"),
	{submit, "\t\"math/rand/v2\"\n", ""},

	// A refused one that names a collection which nobody has: there is nothing to fetch for it.
	after(collector,
		"\t\t\t\t\tc.logger.Warningf(\"Failed to retrieve collection config for collection criteria [%#v]: %s\", cc, err)\n",
		"\t\t\t\t\tif invalid {\n\t\t\t\t\t\tcontinue\n\t\t\t\t\t}\n"),

	// One without a header was refused, and is looked at once more when its block is committed.
	{preparer, "(payload.Header.ChannelHeader)", "(payload.GetHeader().GetChannelHeader())"},
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
	for beside, file := range added {
		path := filepath.Join(folder, filepath.Dir(beside), file.name)
		if err := os.WriteFile(path, []byte(file.text), 0o644); err != nil {
			return err
		}
	}
	return nil
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
