package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
