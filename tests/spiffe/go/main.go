// What go-spiffe says of SPIFFE IDs, trust bundles and SVIDs, to hold the broker against.
//
//	go run . vectors TESTDATA > ../../cases/go_spiffe.json   go-spiffe's own examples, each with its verdict
//	go run . judge                                           a candidate a line in, a verdict a line out
//
// TESTDATA is a clone of go-spiffe v2.8.1 (`go mod tidy` brings the module itself), whose test files the certificates and
// bundles are read from. Nothing of the daily tests needs Go: they read the file.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// A candidate. Which members it has depends on its kind.
type candidate struct {
	Kind string `json:"kind"`
	// id, trust_domain, bundle, jwt_bundle, x509_bundle: what is to be read.
	Text string `json:"text,omitempty"`
	// jwt_svid, x509_svid: the bundle of `domain`, and what is shown.
	Domain   string   `json:"domain,omitempty"`
	Bundle   string   `json:"bundle,omitempty"`
	Audience []string `json:"audience,omitempty"`
	Chain    []string `json:"chain,omitempty"`
	// The key of the leaf, PKCS#8: with it the leaf is also read as an SVID to serve with.
	Key string `json:"key,omitempty"`
	// When it is judged, in seconds; X.509-SVIDs only. Tokens are judged now.
	At int64 `json:"at,omitempty"`
}

// A verdict. What was read stands in it, as far as it was accepted.
type verdict struct {
	Accepted bool   `json:"accepted"`
	Why      string `json:"why,omitempty"`
	// The trust domain and the path of an ID, or the ID of an SVID.
	Domain string `json:"read_domain,omitempty"`
	Path   string `json:"path,omitempty"`
	ID     string `json:"id,omitempty"`
	// Of a bundle.
	X509     int      `json:"x509,omitempty"`
	JWT      []string `json:"jwt,omitempty"`
	Sequence *uint64  `json:"sequence,omitempty"`
	Hint     *int64   `json:"hint,omitempty"`
}

func refused(err error) verdict { return verdict{Why: err.Error()} }

func judge(c candidate) verdict {
	switch c.Kind {
	case "id":
		id, err := spiffeid.FromString(c.Text)
		if err != nil {
			return refused(err)
		}
		return verdict{Accepted: true, Domain: id.TrustDomain().Name(), Path: id.Path()}
	case "trust_domain":
		td, err := spiffeid.TrustDomainFromString(c.Text)
		if err != nil {
			return refused(err)
		}
		return verdict{Accepted: true, Domain: td.Name()}
	case "bundle":
		b, err := spiffebundle.Parse(domain("trustdomain"), []byte(c.Text))
		if err != nil {
			return refused(err)
		}
		v := verdict{Accepted: true, X509: len(b.X509Authorities()), JWT: names(b.JWTBundle())}
		if sequence, ok := b.SequenceNumber(); ok {
			v.Sequence = &sequence
		}
		if hint, ok := b.RefreshHint(); ok {
			secs := int64(hint / time.Second)
			v.Hint = &secs
		}
		return v
	case "jwt_bundle":
		b, err := jwtbundle.Parse(domain("trustdomain"), []byte(c.Text))
		if err != nil {
			return refused(err)
		}
		return verdict{Accepted: true, JWT: names(b)}
	case "x509_bundle":
		der, err := base64.StdEncoding.DecodeString(c.Text)
		if err != nil {
			return refused(err)
		}
		b, err := x509bundle.ParseRaw(domain("trustdomain"), der)
		if err != nil {
			return refused(err)
		}
		return verdict{Accepted: true, X509: len(b.X509Authorities())}
	case "jwt_svid":
		b, err := spiffebundle.Parse(domain(c.Domain), []byte(c.Bundle))
		if err != nil {
			return refused(err)
		}
		svid, err := jwtsvid.ParseAndValidate(c.Text, b, c.Audience)
		if err != nil {
			return refused(err)
		}
		return verdict{Accepted: true, ID: svid.ID.String()}
	case "x509_svid":
		b, err := spiffebundle.Parse(domain(c.Domain), []byte(c.Bundle))
		if err != nil {
			return refused(err)
		}
		var chain [][]byte
		for _, text := range c.Chain {
			der, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return refused(err)
			}
			chain = append(chain, der)
		}
		id, _, err := x509svid.ParseAndVerify(chain, b, x509svid.WithTime(time.Unix(c.At, 0)))
		if err != nil {
			return refused(err)
		}
		// What it asks of an SVID that it serves with, too: Verify leaves some of the leaf's rules out.
		if c.Key != "" {
			key, err := base64.StdEncoding.DecodeString(c.Key)
			if err != nil {
				return refused(err)
			}
			if _, err := x509svid.ParseRaw(bytes.Join(chain, nil), key); err != nil {
				return refused(err)
			}
		}
		return verdict{Accepted: true, ID: id.String()}
	}
	return refused(fmt.Errorf("no such kind: %q", c.Kind))
}

func names(b *jwtbundle.Bundle) []string {
	var all []string
	for name := range b.JWTAuthorities() {
		all = append(all, name)
	}
	return all
}

func domain(name string) spiffeid.TrustDomain { return spiffeid.RequireTrustDomainFromString(name) }

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "vectors":
		vectors(os.Args[2])
	case len(os.Args) == 2 && os.Args[1] == "judge":
		lines := bufio.NewScanner(os.Stdin)
		lines.Buffer(make([]byte, 1<<20), 1<<20)
		out := bufio.NewWriter(os.Stdout)
		for lines.Scan() {
			var c candidate
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				panic(err)
			}
			text, err := json.Marshal(judge(c))
			if err != nil {
				panic(err)
			}
			out.Write(append(text, '\n'))
			out.Flush()
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: vectors TESTDATA | judge")
		os.Exit(2)
	}
}
