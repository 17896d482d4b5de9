"""Secrets that are known by their looks, wherever they stand: private keys, JWTs, credentials of HTTP, API tokens."""

from __future__ import annotations

import base64
import re
from typing import Final

from asgi_obs.redaction.escapes import BEHIND_ESCAPE
from asgi_obs.redaction.mask import MASK

__all__ = ["FORMATS", "TRIGGERS", "redact_tokens"]

# What it looks like, and what such a text has in it when it is in lower case and without `-`, `_` and spaces.
FORMATS: Final = (
    (r"AKIA[0-9A-Z]{16}", "akia[0-9a-z]{16}"),  # AWS
    (r"ASIA[0-9A-Z]{16}", "asia[0-9a-z]{16}"),
    (r"gh[pousr]_[0-9A-Za-z]{20,}", "gh[pousr][0-9a-z]{20}"),  # GitHub
    (r"github_pat_\w{20,}", "githubpat"),
    (r"gl(?:pat|rt|dt|cbt|ptt|ft|soat|agent|imt)-[\w-]{16,}", "gl(?:pat|rt|dt|cbt|ptt|ft|soat|agent|imt)[0-9a-z]{12}"),
    (r"xox[a-z]-[\w-]{10,}", "xox[a-z][0-9a-z]{6}"),  # Slack
    (r"xapp-[\w-]{10,}", "xapp"),
    (r"[sr]k_(?:live|test|prod)_[0-9A-Za-z]{8,}", "k(?:live|test|prod)[0-9a-z]{8}"),  # Stripe
    (r"whsec_[0-9A-Za-z+/=]{16,}", "whsec"),
    (r"AIza[\w-]{30,}", "aiza"),  # Google
    (r"ya29\.[\w-]{16,}", r"ya29\."),
    (r"GOCSPX-[\w-]{16,}", "gocspx"),
    (r"npm_[0-9A-Za-z]{30,}", "npm[0-9a-z]{30}"),
    (r"pypi-AgE[\w-]{16,}", "pypiage"),
    (r"SG\.[\w-]{16,}\.[\w-]{16,}", r"sg\.[0-9a-z]{10}"),  # SendGrid
    (r"sk-(?=[\w-]{0,64}?(?=[0-9A-Za-z]{12})[A-Za-z]{0,11}\d)[\w-]{20,}", ""),  # OpenAI, Anthropic
    (r"hf_[0-9A-Za-z]{30,}", "hf[0-9a-z]{30}"),  # Hugging Face
    (r"dop_v1_[0-9a-f]{32,}", "dopv1"),  # DigitalOcean
    (r"doo_v1_[0-9a-f]{32,}", "doov1"),
    (r"dor_v1_[0-9a-f]{32,}", "dorv1"),
    (r"\d{8,10}:AA[\w-]{33}", ":aa[0-9a-z]{20}"),  # Telegram
    (r"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{32}", "shp(?:at|ca|pa|ss)[0-9a-f]{32}"),  # Shopify
    (r"SK[0-9a-f]{32}", "sk[0-9a-f]{32}"),  # Twilio
    (r"hv[sbr]\.[\w-]{20,}", r"hv[sbr]\."),  # Vault
    (r"dapi[0-9a-f]{32}", "dapi[0-9a-f]{32}"),  # Databricks
    (r"key-[0-9a-f]{32}", "key[0-9a-f]{32}"),  # Mailgun
    (r"sq0[a-z]{3}-[\w-]{22,}", "sq0"),  # Square
    (r"dckr_pat_[\w-]{20,}", "dckrpat"),  # Docker
    (r"glsa_\w{32,}", "glsa[0-9a-z]{30}"),  # Grafana
    (r"rubygems_[0-9a-f]{40,}", "rubygems"),
    (r"ATATT3[\w=-]{40,}", "atatt3"),  # Atlassian
    (r"ATCTT3[\w=-]{40,}", "atctt3"),
    (r"sntry[su]_[\w+/=-]{30,}", "sntry"),  # Sentry
    (r"NRAK-[0-9A-Z]{27}", "nrak"),  # New Relic
    (r"lin_api_[0-9A-Za-z]{30,}", "linapi"),  # Linear
    (r"PMAK-[0-9a-f-]{40,}", "pmak"),  # Postman
    (r"AGE-SECRET-KEY-1[0-9A-Z]{50,}", "agesecretkey1"),
)
TRIGGERS: Final = (
    *(trigger for _, trigger in FORMATS if trigger),
    "privatekey",
    "eyj",
    "bearer",
    "basic",
    "digest",
    "aws4hmac",
    "accountkey=",
    "sharedaccesskey=",
    "sig=",
    "signature=",
    "hooks.slack.com",
    "/api/webhooks/",
)
"""For `asgi_obs.redaction.prefilter`; what begins with `sk-` would be found in every `task`, see `redact_tokens`."""

_ANY: Final = f"(?:{'|'.join(pattern for pattern, _ in FORMATS)})"
_KNOWN: Final = re.compile(f"(?<![0-9A-Za-z]){_ANY}", re.ASCII)
_KNOWN_ESCAPED: Final = re.compile(f"(?:{BEHIND_ESCAPE}){_ANY}", re.ASCII)
_PEM: Final = re.compile(
    r"-----BEGIN [0-9A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,20}-----[^-]*(?:-(?!----)[^-]*)*(?:-----END [0-9A-Z ]{0,60}-----)?"
)
_DOTTED: Final = re.compile(r"(?<![\w.-])[\w-]+(?:\.[\w-]*)+", re.ASCII)
_JWT_HEADER: Final = re.compile(r"eyJ[\w-]{12,}", re.ASCII)

_START: Final = rf"(?:\b|{BEHIND_ESCAPE})"
_SPACES: Final = r"(?:[\s:=+]|%(?:20|3[AaDd])){1,16}"

# A word of letters only, in one case, is no credential but English: "the bearer of bad news".
_BEARER: Final = re.compile(
    rf"({_START}bearer{_SPACES})"
    r"(?![\w-]{1,64}=[\"'])"
    r"(?=[A-Za-z._~+/-]{0,512}\d|[\w.~+/-]{0,512}(?-i:[a-z][A-Z])|[\w.~+/=-]{20})[\w.~+/-]{4,}=*",
    re.IGNORECASE | re.ASCII,
)
_BASIC: Final = re.compile(rf"({_START}basic{_SPACES})([0-9A-Za-z+/_-]{{4,}}=*)", re.IGNORECASE)
_PARAMETER: Final = r"""\w+=(?:\\*"[^"\n]*"|[^\s"',]+)"""
_PARAMETERS: Final = re.compile(
    rf"({_START}(?:Digest|AWS4-HMAC-SHA256)[ \t]+){_PARAMETER}(?:,\s{{0,8}}{_PARAMETER})*", re.IGNORECASE
)
# Shared keys and signatures of Azure, AWS and Google Cloud.
_SIGNED: Final = re.compile(
    rf"({_START}(?:AccountKey|SharedAccessKey|sig|signature|X-Amz-Signature|X-Goog-Signature)=)[\w%+/=-]{{16,}}",
    re.IGNORECASE,
)
_WEBHOOK: Final = re.compile(
    rf"({_START}hooks\.slack\.com/(?:services|workflows|triggers)/|/api/webhooks/\d{{1,32}}/)[\w/-]{{16,}}", re.ASCII
)


def redact_tokens(text: str) -> str:
    """The text without the secrets that are known by their looks."""
    if "PRIVATE KEY" in text:
        text = _PEM.sub(MASK, text)
    if "eyJ" in text:
        text = _DOTTED.sub(_without_jwt, text)
    text = _KNOWN.sub(MASK, text)
    if "\\" in text or "%" in text:
        text = _KNOWN_ESCAPED.sub(MASK, text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _BASIC.sub(_without_basic, text)
    text = _PARAMETERS.sub(rf"\1{MASK}", text)
    text = _SIGNED.sub(rf"\1{MASK}", text)
    return _WEBHOOK.sub(rf"\1{MASK}", text)


def _without_jwt(found: re.Match[str]) -> str:
    """Words with dots between them, up to the first that is the beginning of JSON in base64."""
    dotted = found[0]
    for header in _JWT_HEADER.finditer(dotted):
        if dotted.startswith(".", header.end()) and b'":' in _decoded(header[0]):
            return f"{dotted[: header.start()]}{MASK}"
    return dotted


def _without_basic(found: re.Match[str]) -> str:
    """Only what is `user:password` in base64: "Basic authentication" is not."""
    decoded = _decoded(found[2])
    try:
        return f"{found[1]}{MASK}" if ":" in decoded.decode() else found[0]
    except ValueError:
        return found[0]


def _decoded(written: str) -> bytes:
    """What is written in base64, without a last character that is half a byte."""
    written = written.rstrip("=")
    whole = written + "=" * (-len(written) % 4) if len(written) % 4 != 1 else written[:-1]
    return base64.urlsafe_b64decode(whole.replace("+", "-").replace("/", "_"))
