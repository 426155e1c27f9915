"""How customers are refused."""

from quanhui.base.errors import Problem


class CodeRefused(Problem):
    """The code is wrong, expired, used, or tried too often, or the account is suspended: all look alike."""

    code, status = "code-refused", 401
    zh, en = "验证码不正确或已失效", "The code is wrong or no longer valid"
    remedy_zh = "请核对短信中的验证码；多次输错后请重新获取。"
    remedy_en = "Check the code in the message; after several wrong tries ask for a new one."


class IdNumberInvalid(Problem):
    """The identity number does not pass its check digit (GB 11643)."""

    code, status = "id-number-invalid", 409
    zh, en = "身份证号码有误", "The identity number is not valid"
    remedy_zh = "请对照身份证逐位核对 18 位号码。"
    remedy_en = "Compare all 18 characters with the card."


class IdentityInUse(Problem):
    """The identity number is verified for another account."""

    code, status = "identity-in-use", 409
    zh, en = "该身份信息已在其他账户完成实名", "This identity belongs to another account"
    remedy_zh = "请用原手机号登录；手机号已停用的，请持身份证到门店服务台办理。"
    remedy_en = "Sign in with your earlier phone number, or bring your identity card to a service desk."


class IdentityAlreadyVerified(Problem):
    """The account is verified for another name or number; that changes only at a desk."""

    code, status = "identity-already-verified", 409
    zh, en = "账户已完成实名，不能更换为其他人", "The account is already verified for someone else"
    remedy_zh = "如实名信息有误，请持身份证到门店服务台更正。"
    remedy_en = "If your details are wrong, bring your identity card to a service desk."


class IdentityRequired(Problem):
    """The operation needs a verified identity."""

    code, status = "identity-required", 403
    zh, en = "请先完成实名认证", "Verify your identity first"
    remedy_zh = "请在“我的—实名认证”中填写姓名和身份证号码。"
    remedy_en = "Give your name and identity number under “My account”."


class PayeeNameMismatch(Problem):
    """The account is not held under the customer's verified name."""

    code, status = "payee-name-mismatch", 409
    zh, en = "收款账户户名须与实名一致", "The account must be held under your verified name"
    remedy_zh = "请使用本人名下的账户收款。"
    remedy_en = "Use an account in your own name."


class AccountInvalid(Problem):
    """The account cannot exist: a bank card number that fails its check digit."""

    code, status = "account-invalid", 409
    zh, en = "收款账号有误", "The account number is not valid"
    remedy_zh = "请逐位核对银行卡号。"
    remedy_en = "Compare the number with the card."


class TooManyPayees(Problem):
    """A customer holds as many payee accounts as we keep."""

    code, status = "too-many-payees", 409
    zh, en = "收款账户数量已达上限", "You have as many payee accounts as we keep"
    remedy_zh = "请先删除不再使用的收款账户。"
    remedy_en = "Remove an account you no longer use."


class CreditCodeInvalid(Problem):
    """The unified social credit code does not pass its check digit (GB 32100)."""

    code, status = "credit-code-invalid", 409
    zh, en = "统一社会信用代码有误", "The credit code is not valid"
    remedy_zh = "请对照营业执照逐位核对 18 位代码。"
    remedy_en = "Compare all 18 characters with the business licence."


class EnterpriseExists(Problem):
    """The credit code is registered already."""

    code, status = "enterprise-exists", 409
    zh, en = "该企业已登记", "This enterprise is registered already"
    remedy_zh = "请在企业列表中查找，并将人员加入该企业。"
    remedy_en = "Find it in the list and add people to it."
