package backendtest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// writeJSON answers in JSON. The errors of writing are the client's.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// writeXML answers in the form of the query protocol.
func writeXML(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(v)
}

// fail answers with an error in the form that the service has for it.
func (a *AWS) fail(w http.ResponseWriter, s AWSService, status int, code, message string) {
	switch s {
	case AWSIMDS:
		http.Error(w, http.StatusText(status), status)
	case AWSContainer:
		if code == "" { // a proxy in front of it
			http.Error(w, message, status)
			return
		}
		writeJSON(w, status, map[string]string{"code": code, "message": message})
	case AWSSSO:
		w.Header().Set("X-Amzn-ErrorType", code)
		writeJSON(w, status, map[string]string{"message": message, "error": code})
	default:
		if code == "" {
			code = "InternalFailure"
		}
		writeXML(w, status, struct {
			XMLName xml.Name `xml:"ErrorResponse"`
			Code    string   `xml:"Error>Code"`
			Message string   `xml:"Error>Message"`
		}{Code: code, Message: message})
	}
}

func (a *AWS) container(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != awsContainerToken {
		a.fail(w, AWSContainer, http.StatusBadRequest, "AccessDeniedException", "the token is not this pod's")
		return
	}
	k := a.issue(AWSContainer, awsTaskRole)
	writeJSON(w, http.StatusOK, map[string]any{
		"AccessKeyId": k.ID, "SecretAccessKey": k.Secret, "Token": k.SessionToken, "Expiration": k.Expires.UTC(),
		"RoleArn": "arn:aws:iam::" + awsAccount + ":role/task",
	})
}

// imds is version 2: everything but the token needs one.
func (a *AWS) imds(w http.ResponseWriter, r *http.Request) {
	const ttlHeader = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	if r.URL.Path == "/latest/api/token" {
		ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
		if r.Method != http.MethodPut || err != nil || ttl < 1 || ttl > 21600 {
			a.fail(w, AWSIMDS, http.StatusBadRequest, "", "")
			return
		}
		token := randomHex(28)
		a.mu.Lock()
		a.sessions[token] = time.Now().Add(time.Duration(ttl) * time.Second)
		a.mu.Unlock()
		w.Header().Set(ttlHeader, strconv.Itoa(ttl))
		fmt.Fprint(w, token)
		return
	}
	a.mu.Lock()
	valid := time.Now().Before(a.sessions[r.Header.Get("X-Aws-Ec2-Metadata-Token")])
	a.mu.Unlock()
	if !valid {
		a.fail(w, AWSIMDS, http.StatusUnauthorized, "", "")
		return
	}
	switch strings.TrimPrefix(r.URL.Path, "/latest/meta-data/iam/security-credentials/") {
	case "":
		fmt.Fprint(w, awsInstanceRole)
	case awsInstanceRole:
		k := a.issue(AWSIMDS, "arn:aws:sts::"+awsAccount+":assumed-role/"+awsInstanceRole+"/i-0123456789abcdef0")
		writeJSON(w, http.StatusOK, map[string]any{
			"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": time.Now().UTC(),
			"AccessKeyId": k.ID, "SecretAccessKey": k.Secret, "Token": k.SessionToken, "Expiration": k.Expires.UTC(),
		})
	default:
		a.fail(w, AWSIMDS, http.StatusNotFound, "", "")
	}
}

func (a *AWS) sso(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		var in struct{ GrantType, RefreshToken string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.GrantType != "refresh_token" || in.RefreshToken != "refresh" {
			a.fail(w, AWSSSO, http.StatusBadRequest, "InvalidGrantException", "the refresh token is not known")
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"accessToken": awsSSOToken, "expiresIn": 3600, "refreshToken": "refresh", "tokenType": "Bearer"})
		return
	}
	if r.Header.Get("X-Amz-Sso_bearer_token") != awsSSOToken {
		a.fail(w, AWSSSO, http.StatusUnauthorized, "UnauthorizedException", "Session token not found or invalid")
		return
	}
	role := r.URL.Query().Get("role_name")
	if role != "task" {
		a.fail(w, AWSSSO, http.StatusForbidden, "ForbiddenException", "No access")
		return
	}
	k := a.issue(AWSSSO, "arn:aws:sts::"+awsAccount+":assumed-role/AWSReservedSSO_task/me")
	writeJSON(w, http.StatusOK, map[string]any{"roleCredentials": map[string]any{
		"accessKeyId": k.ID, "secretAccessKey": k.Secret, "sessionToken": k.SessionToken, "expiration": k.Expires.UnixMilli(),
	}})
}

// sts speaks the query protocol: AssumeRole, AssumeRoleWithWebIdentity and
// GetCallerIdentity.
func (a *AWS) sts(w http.ResponseWriter, r *http.Request) {
	action := r.FormValue("Action")
	if action == "AssumeRoleWithWebIdentity" {
		a.assumeWithWebIdentity(w, r)
		return
	}
	a.mu.Lock()
	offset := a.knobs[AWSSTS].ClockOffset
	a.mu.Unlock()
	if offset != 0 {
		w.Header().Set("Age", "0")
	}
	caller, code, why := a.caller(r, "sts", time.Now().Add(offset))
	if code != "" {
		a.fail(w, AWSSTS, http.StatusForbidden, code, why)
		return
	}
	switch action {
	case "GetCallerIdentity":
		writeXML(w, http.StatusOK, struct {
			XMLName xml.Name `xml:"GetCallerIdentityResponse"`
			ARN     string   `xml:"GetCallerIdentityResult>Arn"`
			Account string   `xml:"GetCallerIdentityResult>Account"`
			UserID  string   `xml:"GetCallerIdentityResult>UserId"`
		}{ARN: caller.Principal, Account: awsAccount, UserID: caller.ID})
	case "AssumeRole":
		i := slices.IndexFunc(a.o.Roles, func(role AWSRole) bool {
			return role.ARN == r.FormValue("RoleArn") && role.ExternalID == r.FormValue("ExternalId") &&
				(role.Trusts == nil || slices.Contains(role.Trusts, caller.Principal))
		})
		if i < 0 {
			a.fail(w, AWSSTS, http.StatusForbidden, "AccessDenied",
				"User: "+caller.Principal+" is not authorized to perform: sts:AssumeRole on resource: "+r.FormValue("RoleArn"))
			return
		}
		a.giveRole(w, r, action)
	default:
		a.fail(w, AWSSTS, http.StatusBadRequest, "InvalidAction", action)
	}
}

func (a *AWS) assumeWithWebIdentity(w http.ResponseWriter, r *http.Request) {
	expires, known := a.o.WebIdentities[r.FormValue("WebIdentityToken")]
	switch {
	case !known:
		a.fail(w, AWSSTS, http.StatusBadRequest, "InvalidIdentityToken", "No OpenIDConnect provider found in your account")
	case !time.Now().Before(expires):
		a.fail(w, AWSSTS, http.StatusBadRequest, "ExpiredTokenException", "Token expired")
	case !slices.ContainsFunc(a.o.Roles, func(role AWSRole) bool { return role.ARN == r.FormValue("RoleArn") }):
		a.fail(w, AWSSTS, http.StatusForbidden, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	default:
		a.giveRole(w, r, "AssumeRoleWithWebIdentity")
	}
}

func (a *AWS) giveRole(w http.ResponseWriter, r *http.Request, action string) {
	session := strings.Replace(strings.Replace(r.FormValue("RoleArn"), ":iam:", ":sts:", 1), ":role/", ":assumed-role/", 1) + "/" + r.FormValue("RoleSessionName")
	k := a.issue(AWSSTS, session)
	type credentials struct {
		AccessKeyID     string `xml:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
	}
	type result struct {
		Credentials credentials
		ARN         string `xml:"AssumedRoleUser>Arn"`
		ID          string `xml:"AssumedRoleUser>AssumedRoleId"`
	}
	var answer struct {
		XMLName xml.Name
		Result  struct {
			XMLName xml.Name
			result
		}
	}
	answer.XMLName.Local, answer.Result.XMLName.Local = action+"Response", action+"Result"
	answer.Result.result = result{
		credentials{k.ID, k.Secret, k.SessionToken, k.Expires.UTC().Format(time.RFC3339)}, session, "AROA:" + r.FormValue("RoleSessionName"),
	}
	writeXML(w, http.StatusOK, answer)
}

// rdsAPI tells the resource IDs of clusters and instances.
func (a *AWS) rdsAPI(w http.ResponseWriter, r *http.Request) {
	if _, code, why := a.caller(r, "rds", time.Now()); code != "" {
		a.fail(w, AWSRDSAPI, http.StatusForbidden, code, why)
		return
	}
	if name := r.FormValue("DBClusterIdentifier"); a.o.Clusters[name] != "" {
		writeXML(w, http.StatusOK, struct {
			XMLName xml.Name `xml:"DescribeDBClustersResponse"`
			ID      string   `xml:"DescribeDBClustersResult>DBClusters>DBCluster>DbClusterResourceId"`
		}{ID: a.o.Clusters[name]})
		return
	}
	if name := r.FormValue("DBInstanceIdentifier"); a.o.Instances[name] != "" {
		writeXML(w, http.StatusOK, struct {
			XMLName xml.Name `xml:"DescribeDBInstancesResponse"`
			ID      string   `xml:"DescribeDBInstancesResult>DBInstances>DBInstance>DbiResourceId"`
		}{ID: a.o.Instances[name]})
		return
	}
	a.fail(w, AWSRDSAPI, http.StatusNotFound, "DBClusterNotFoundFault", "not found")
}
