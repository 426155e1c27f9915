"""How staff and partners are refused."""

from quanhui.base.errors import Problem


class SignInRefused(Problem):
    """Login, password or one-time password is wrong, or the account is suspended: all look alike."""

    code, status = "sign-in-refused", 401
    zh, en = "登录名、密码或动态口令不正确", "Login, password or one-time password is wrong"
    remedy_zh = "请核对后重试；动态口令每 30 秒更换，且只能使用一次。"
    remedy_en = "Check all three; a one-time password changes every 30 seconds and works once."


class LoginTaken(Problem):
    """Another operator has this login."""

    code, status = "login-taken", 409
    zh, en = "该登录名已被使用", "This login is taken"
    remedy_zh = "请换一个登录名。"
    remedy_en = "Choose another login."


class UnknownRole(Problem):
    """A role does not exist or is not one for staff."""

    code, status = "unknown-role", 409
    zh, en = "角色不存在或不能授予员工", "No such role for staff"
    remedy_zh = "请从角色列表中选择。"
    remedy_en = "Choose from the list of roles."


class RoleNeedsPlace(Problem):
    """A role reaches a store or a merchant, and the operator has none."""

    code, status = "role-needs-place", 409
    zh, en = "该角色需要指定门店或商户", "This role needs a store or a merchant"
    remedy_zh = "请为该员工选择所属门店或商户。"
    remedy_en = "Say which store or merchant the operator belongs to."


class NotYourself(Problem):
    """Nobody suspends their own account or resets their own credentials."""

    code, status = "not-yourself", 409
    zh, en = "不能对自己的账户执行此操作", "You cannot do this to your own account"
    remedy_zh = "请由另一位管理员操作。"
    remedy_en = "Ask another administrator."


class PartnerBelongsNowhere(Problem):
    """A partner must belong to an enterprise or a merchant, because its permissions reach only that."""

    code, status = "partner-belongs-nowhere", 409
    zh, en = "合作方须归属企业或商户", "A partner needs an enterprise or a merchant"
    remedy_zh = "请填写企业编号或商户编号。"
    remedy_en = "Give an enterprise id or a merchant id."
