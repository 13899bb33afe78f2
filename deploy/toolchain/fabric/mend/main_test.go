package main

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed testdata/headerless_test.go.txt
var headerless string

// asExpected makes a folder that has what each edit wants to find.
func asExpected(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	texts := map[string]string{}
	for _, edit := range edits {
		texts[edit.file] += edit.old
	}
	for file, text := range texts {
		write(t, filepath.Join(folder, file), text)
	}
	return folder
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEachPlaceIsMended(t *testing.T) {
	folder := asExpected(t)
	if err := apply(folder); err != nil {
		t.Fatal(err)
	}
	for _, edit := range edits {
		found, err := os.ReadFile(filepath.Join(folder, edit.file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(found), edit.new) {
			t.Errorf("%s lacks %q", edit.file, edit.new)
		}
	}
	for beside, file := range added {
		if _, err := os.Stat(filepath.Join(folder, filepath.Dir(beside), file.name)); err != nil {
			t.Error(err)
		}
	}
}

func TestAPlaceThatIsNotAsExpectedFails(t *testing.T) {
	for _, edit := range edits {
		for name, text := range map[string]string{"gone": "package x\n", "twice": edit.old + edit.old} {
			folder := asExpected(t)
			write(t, filepath.Join(folder, edit.file), text)
			if err := apply(folder); err == nil || !strings.Contains(err.Error(), edit.file) {
				t.Errorf("%s, %q %s: %v", edit.file, edit.old, name, err)
			}
		}
	}
}

// The block is fed to the function itself, in a copy of its package without upstream's own tests: those need modules that
// this one has not.
func TestABlockOfAnEnvelopeWithoutAHeaderEndsNoPeer(t *testing.T) {
	t.Chdir("..")
	folder := filepath.Join(t.TempDir(), "fabric")
	if err := mend(folder); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(folder, filepath.Dir(preparer))
	tests, err := filepath.Glob(filepath.Join(place, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		if err := os.Remove(test); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(place, "headerless_test.go"), headerless)
	arguments := []string{"test", "-trimpath", "-modfile=" + folder + ".mod", module + "/" + filepath.Dir(preparer)}
	output, err := exec.Command("go", arguments...).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(output), "ok") {
		t.Fatalf("%v\n%s", err, output)
	}
}
