package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// An example: which of go-spiffe's tests it is from, what is judged, and the verdict.
type example struct {
	From string `json:"from"`
	candidate
	verdict
}

// Writes go-spiffe's own examples, judged. What its tests make anew each time is made once here, in the same way.
func vectors(clone string) {
	now := time.Now()
	all := append(ids(), bundles(clone)...)
	all = append(all, tokens(now)...)
	all = append(all, certificates(clone, now)...)
	fmt.Printf("{\n  \"source\": \"github.com/spiffe/go-spiffe/v2 v2.8.1 (Apache-2.0), commit e9973f6314a3fa0e36eb1f00fbfe37bdc1554b96: the examples of its tests, "+
		"by tests/spiffe/go\",\n  \"at\": %d,\n  \"examples\": [\n", now.Unix())
	for i, e := range all {
		e.verdict = judge(e.candidate)
		e.Key = ""
		text, err := json.Marshal(e)
		if err != nil {
			panic(err)
		}
		comma := ","
		if i == len(all)-1 {
			comma = ""
		}
		fmt.Printf("    %s%s\n", text, comma)
	}
	fmt.Print("  ]\n}\n")
}

func ids() []example {
	var all []example
	add := func(from, kind string, texts ...string) {
		for _, text := range texts {
			all = append(all, example{From: from, candidate: candidate{Kind: kind, Text: text}})
		}
	}
	from := "spiffeid/id_test.go TestFromString"
	add(from, "id", "", "spiffe://trustdomain")
	for i := 0; i < 256; i++ {
		if i != '/' {
			s := string(rune(i))
			add(from, "id", "spiffe://trustdomain"+s+"/path", "spiffe://trustdomain/path"+s)
		}
	}
	add(from, "id", "s", "spiffe:/", "Spiffe://", "spiffe://", "spiffe:///",
		"spiffe://trustdomain/", "spiffe://trustdomain//", "spiffe://trustdomain//path", "spiffe://trustdomain/path/",
		"spiffe://trustdomain/.", "spiffe://trustdomain/./path", "spiffe://trustdomain/path/./other",
		"spiffe://trustdomain/path/..", "spiffe://trustdomain/..", "spiffe://trustdomain/../path",
		"spiffe://trustdomain/path/../other", "spiffe://trustdomain/.path", "spiffe://trustdomain/..path",
		"spiffe://trustdomain/...", "spiffe://%F0%9F%A4%AF/path", "spiffe://trustdomain/%F0%9F%A4%AF",
		"spiffe://%62%61%64/path", "spiffe://trustdomain/%62%61%64")
	add("spiffeid/id_test.go TestFromURI", "id", "spiffe://trustdomain", "spiffe://trustdomain/path", "SPIFFE://trustdomain",
		"spiffe://trust$domain", "spiffe://trustdomain/path$")
	from = "spiffeid/id_test.go TestFromSegments, TestFromPathf, TestIDReplacePath, TestIDAppendPath"
	for _, path := range []string{"/foo", "/foo/bar", "/", "//", "//foo", "/$", "foo", "/path/foo", "/path/", "/pathfoo"} {
		add(from, "id", "spiffe://trustdomain"+path)
	}
	from = "spiffeid/path_test.go TestJoinPathSegments, TestValidatePathSegment"
	for _, segment := range []string{"", ".", "..", "/", "a", "a/b"} {
		add(from, "id", "spiffe://trustdomain/"+segment)
	}
	add("spiffeid/id_test.go TestIDTextUnmarshaler", "id", "BAD", "spiffe://trustdomain/path")
	from = "spiffeid/trustdomain_test.go TestTrustDomainFromString"
	add(from, "trust_domain", "", "spiffe://trustdomain", "spiffe://trustdomain/path", "spiffe:/trustdomain/path", "spiffe://",
		"spiffe:///path", "spiffe://trustdomain/", "spiffe://trustdomain/path/", "spiffe://%F0%9F%A4%AF/path",
		"spiffe://trustdomain/%F0%9F%A4%AF")
	for i := 0; i < 256; i++ {
		add(from, "trust_domain", "trustdomain"+string(rune(i)))
	}
	add("spiffeid/trustdomain_test.go TestTrustDomainTextUnmarshaler", "trust_domain", "BAD", "trustdomain")
	return all
}

func bundles(clone string) []example {
	var all []example
	of := func(kind, folder string, names ...string) {
		for _, name := range names {
			// One that is not there reads as nothing, in their tests too.
			text, _ := os.ReadFile(filepath.Join(clone, folder, "testdata", name))
			all = append(all, example{From: folder + "/testdata/" + name, candidate: candidate{Kind: kind, Text: string(text)}})
		}
	}
	of("bundle", "bundle/spiffebundle", "does-not-exist.json", "spiffebundle_valid_1.json", "spiffebundle_valid_2.json",
		"spiffebundle_missing_kid.json", "spiffebundle_no_keys.json", "spiffebundle_multiple_x509.json",
		"spiffebundle_valid_with_wit.json")
	of("jwt_bundle", "bundle/jwtbundle", "does-not-exist.json", "jwks_valid_1.json", "jwks_valid_2.json", "jwks_missing_kid.json")
	for _, name := range []string{"certs.pem", "cert.pem", "empty.pem", "not-pem.pem", "corrupted.pem"} {
		text, err := os.ReadFile(filepath.Join(clone, "bundle/x509bundle/testdata", name))
		check(err)
		// The agent gives DER: what PEM holds, and as it is what is none.
		der := ders(text)
		if len(der) == 0 {
			der = [][]byte{text}
		}
		var joined []byte
		for _, one := range der {
			joined = append(joined, one...)
		}
		all = append(all, example{From: "bundle/x509bundle/testdata/" + name, candidate: candidate{
			Kind: "x509_bundle", Text: base64.StdEncoding.EncodeToString(joined)}})
	}
	return all
}

func tokens(now time.Time) []example {
	key1, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(err)
	key2, err := rsa.GenerateKey(rand.Reader, 2048)
	check(err)
	bundle := document(jose.JSONWebKey{Key: key1.Public(), KeyID: "authority1", Use: "jwt-svid"},
		jose.JSONWebKey{Key: key2.Public(), KeyID: "authority2", Use: "jwt-svid"})
	const host = "spiffe://trustdomain/host"
	// The algorithm `HS256`, as their tests have it: the example of RFC 7519's best known web page.
	hs256 := "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ" +
		".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
	expires := jwt.NewNumericDate(now.Add(time.Minute))
	token := func(subject string, expires *jwt.NumericDate, signer crypto.Signer, kid, typ string) string {
		claims := jwt.Claims{Subject: subject, Issuer: "issuer", Expiry: expires, Audience: []string{"audience"},
			IssuedAt: jwt.NewNumericDate(now)}
		algorithm := jose.ES384
		if _, ok := signer.(*rsa.PrivateKey); ok {
			algorithm = jose.RS256
		}
		options := new(jose.SignerOptions).WithType("JWT")
		if typ != "" {
			options = options.WithHeader(jose.HeaderType, typ)
		}
		made, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: signer, KeyID: kid}}, options)
		check(err)
		text, err := jwt.Signed(made).Claims(claims).Serialize()
		check(err)
		return text
	}
	var all []example
	add := func(name, text string, audience ...string) {
		all = append(all, example{From: "svid/jwtsvid/svid_test.go " + name, candidate: candidate{
			Kind: "jwt_svid", Domain: "trustdomain", Bundle: bundle, Audience: audience, Text: text}})
	}
	add("success", token(host, expires, key1, "authority1", ""))
	add("success (RSA, typ JOSE)", token(host, expires, key2, "authority2", "JOSE"), "audience")
	add("malformed", "invalid token")
	add("unsupported algorithm", hs256)
	add("missing subject", token("", expires, key1, "authority1", ""))
	add("missing expiration claim", token(host, nil, key1, "authority1", ""))
	add("expired", token(host, jwt.NewNumericDate(now.Add(-time.Minute)), key1, "authority1", ""), "audience")
	add("unexpected audience", token(host, expires, key1, "authority1", ""), "another")
	add("invalid subject claim", token("invalid subject", expires, key1, "authority1", ""), "audience")
	add("missing key", token(host, expires, key1, "", ""), "audience")
	add("no bundle for trust domain", token("spiffe://another.domain/host", expires, key1, "noAuthority", ""), "audience")
	add("no bundle for authority", token(host, expires, key1, "noKey", ""), "audience")
	add("mismatched JWT authority", token(host, expires, key2, "authority1", ""), "audience")
	add("invalid typ", token(host, expires, key1, "authority1", "invalid"))
	return all
}

// An authority, as their tests make one.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(now time.Time, usage x509.KeyUsage, isCA bool, parent *authority) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	serial := newSerial()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("CA %x", serial)}, BasicConstraintsValid: true,
		IsCA: isCA, KeyUsage: usage, NotBefore: now, NotAfter: now.Add(time.Hour),
	}
	signed := &authority{certificate: template, key: key}
	if parent == nil {
		parent = signed
	}
	return &authority{certificate: parent.sign(template, key.Public()), key: key}
}

func (a *authority) sign(template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	check(err)
	made, err := x509.ParseCertificate(der)
	check(err)
	return made
}

func (a *authority) bundle() string {
	return document(jose.JSONWebKey{Key: a.certificate.PublicKey, Certificates: []*x509.Certificate{a.certificate}, Use: "x509-svid"})
}

func certificates(clone string, now time.Time) []example {
	now = now.Truncate(time.Second)
	ca1, ca2 := newAuthority(now, 0, true, nil), newAuthority(now, 0, true, nil)
	empty := document()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	check(err)
	var all []example
	add := func(name, domain, bundle string, at time.Time, chain ...*x509.Certificate) {
		c := candidate{Kind: "x509_svid", Domain: domain, Bundle: bundle, At: at.Unix(), Key: base64.StdEncoding.EncodeToString(pkcs8)}
		for _, one := range chain {
			c.Chain = append(c.Chain, base64.StdEncoding.EncodeToString(one.Raw))
		}
		all = append(all, example{From: name, candidate: c})
	}
	workload := &url.URL{Scheme: "spiffe", Host: "domain1.test", Path: "/workload"}
	leaf := func(change func(*x509.Certificate)) *x509.Certificate {
		serial := newSerial()
		template := &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("X509-SVID %x", serial)}, NotBefore: now,
			NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{workload},
		}
		change(template)
		return ca1.sign(template, key.Public())
	}
	good := leaf(func(*x509.Certificate) {})
	const verify = "svid/x509svid/verify_test.go "
	add(verify+"success", "domain1.test", ca1.bundle(), now, good)
	add(verify+"no roots", "domain1.test", empty, now, good)
	add(verify+"no roots for leaf cert domain", "domain2.test", ca2.bundle(), now, good)
	add(verify+"bad leaf cert id", "domain1.test", ca1.bundle(), now, leaf(func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "sparfe", Host: "domain1.test", Path: "/workload"}}
	}))
	add(verify+"verification fails", "domain1.test", ca2.bundle(), now, good)
	add(verify+"no URI SAN", "domain1.test", ca1.bundle(), now, leaf(func(c *x509.Certificate) { c.URIs = nil }))
	add(verify+"more than one URI SAN", "domain1.test", ca1.bundle(), now, leaf(func(c *x509.Certificate) {
		c.URIs = append(c.URIs, c.URIs...)
	}))
	add(verify+"leaf is CA", "domain1.test", ca1.bundle(), now, leaf(func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid = true, true
	}))
	add(verify+"leaf has KeyUsageCertSign", "domain1.test", ca1.bundle(), now, leaf(func(c *x509.Certificate) {
		c.KeyUsage |= x509.KeyUsageCertSign
	}))
	add(verify+"leaf has KeyUsageCRLSign", "domain1.test", ca1.bundle(), now, leaf(func(c *x509.Certificate) {
		c.KeyUsage |= x509.KeyUsageCRLSign
	}))
	add(verify+"with time", "domain1.test", ca1.bundle(), good.NotAfter.Add(time.Second), good)
	broken := *good
	broken.Raw = append([]byte{0x27}, good.Raw[1:]...)
	add(verify+"TestParseAndVerify", "domain1.test", ca1.bundle(), now, &broken)

	// Their certificates in files are signed by keys that nobody has and are over. The same is signed anew here.
	files := "svid/x509svid/testdata/"
	again := func(theirs *x509.Certificate) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: theirs.SerialNumber, Subject: theirs.Subject, NotBefore: now, NotAfter: now.Add(time.Hour),
			KeyUsage: theirs.KeyUsage, ExtKeyUsage: theirs.ExtKeyUsage, URIs: theirs.URIs, DNSNames: theirs.DNSNames,
			BasicConstraintsValid: theirs.BasicConstraintsValid, IsCA: theirs.IsCA,
		}
	}
	for _, name := range []string{"good-leaf-only.pem", "good-cert-and-key.pem", "good-key-and-cert.pem", "good-leaf-and-intermediate.pem",
		"wrong-intermediate-no-ca.pem", "wrong-intermediate-no-key-cert-sign.pem", "wrong-leaf-ca-true.pem", "wrong-leaf-cert-sign.pem",
		"wrong-leaf-crl-sign.pem", "wrong-leaf-empty-id.pem", "wrong-leaf-no-digital-signature.pem"} {
		text, err := os.ReadFile(filepath.Join(clone, files, name))
		check(err)
		var theirs []*x509.Certificate
		for _, der := range ders(text) {
			one, err := x509.ParseCertificate(der)
			check(err)
			theirs = append(theirs, one)
		}
		signer, chain := ca1, []*x509.Certificate(nil)
		for i := len(theirs) - 1; i > 0; i-- {
			above, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			check(err)
			template := again(theirs[i])
			template.Subject.CommonName = "above"
			signer = &authority{certificate: signer.sign(template, above.Public()), key: above}
			chain = append([]*x509.Certificate{signer.certificate}, chain...)
		}
		own := signer.sign(again(theirs[0]), key.Public())
		add(files+name, "example.org", ca1.bundle(), now, append([]*x509.Certificate{own}, chain...)...)
	}
	return all
}

func document(keys ...jose.JSONWebKey) string {
	if keys == nil {
		keys = []jose.JSONWebKey{}
	}
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	check(err)
	return string(text)
}

func ders(text []byte) [][]byte {
	var all [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "CERTIFICATE") {
			all = append(all, block.Bytes)
		}
	}
	return all
}

func newSerial() *big.Int {
	bytes := make([]byte, 8)
	_, err := rand.Read(bytes)
	check(err)
	return new(big.Int).SetBytes(bytes)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
