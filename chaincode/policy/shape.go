package policy

import "fmt"

// Limits of one policy, its comments not counted. Parsing and checking take time that grows with the
// square of an expression's length, and recurse as deep as it nests: without limits, one proposal of
// one member could keep every member's chaincode busy for minutes.
const (
	maxPolicyBytes = 4 << 10
	maxNesting     = 32
)

// checkShape bounds each policy before the parser sees it, and says where each ends: at a semicolon outside strings,
// comments and brackets.
func checkShape(text string) (ends []int, err error) {
	size, depth, number := 0, 0, 1
	for i := 0; i < len(text); i++ {
		size++
		switch text[i] {
		case '"':
			begin := i
			i = endOfString(text, i)
			size += i - begin
		case '/':
			if i+1 < len(text) && text[i+1] == '/' {
				for size--; i+1 < len(text) && text[i+1] != '\n'; i++ {
				}
			}
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case ';':
			if depth <= 0 {
				size, depth = 0, 0
				number++
				ends = append(ends, i+1)
			}
		}
		if size > maxPolicyBytes {
			return nil, fmt.Errorf("policy %d is over %d bytes: split it", number, maxPolicyBytes)
		}
		if depth > maxNesting {
			return nil, fmt.Errorf("policy %d nests more than %d brackets", number, maxNesting)
		}
	}
	return ends, nil
}

// endOfString is the place of the closing quote, or of the last byte.
func endOfString(text string, open int) int {
	for i := open + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(text) - 1
}
