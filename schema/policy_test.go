package schema

import "testing"

func TestPolicyReadsAsItIsWritten(t *testing.T) {
	for _, c := range []struct {
		policy   Policy
		text     string
		needsOld bool
	}{
		{Policy{}, "latest", false},
		{Policy{Kind: HeadWins}, "head", false},
		{Policy{Kind: BranchWins}, "branch", false},
		{Policy{Kind: Ordered, Order: []Office{"north"}}, "[north]", false},
		{Policy{Kind: Ordered, Order: []Office{"north", "south"}}, "[north, south]", false},
		{Policy{Kind: Merge}, "merge", true},
		{Policy{Kind: Add, Add: []string{"stock", "reserved"}}, "{add: [stock, reserved]}", true},
		{Policy{Kind: Manual}, "manual", false},
	} {
		if got := c.policy.String(); got != c.text || c.policy.NeedsOld() != c.needsOld {
			t.Errorf("got %s, needs old values %t; want %s, %t", got, c.policy.NeedsOld(), c.text, c.needsOld)
		}
	}
	seen := map[string]PolicyKind{}
	for k := Latest; k <= Manual; k++ {
		if other, twice := seen[k.String()]; twice || k.String() == "unknown" {
			t.Errorf("kinds %d and %d are both %s", other, k, k)
		}
		seen[k.String()] = k
	}
}
