package auth

// Method is how a client proves who it is. The zero value lets nobody in.
type Method uint8

// The methods, by their names in an HBA file; auth_type has some of them under
// other names, and any, which no HBA file has.
const (
	MethodReject Method = iota
	MethodTrust
	MethodPassword // in cleartext; auth_type calls it plain
	MethodMD5      // SCRAM for those whose secret is one
	MethodScram
	MethodCert
	MethodPeer
	MethodLDAP // in cleartext, and an LDAP server decides
	MethodIAM  // an RDS IAM token
	MethodAny
)

// String returns the method's name.
func (m Method) String() string {
	return [...]string{"reject", "trust", "password", "md5", "scram-sha-256", "cert", "peer", "ldap", "iam", "any"}[m]
}
