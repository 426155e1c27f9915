-- The channels that have a gateway: which accounts each pays, within what its contract allows, at what cost.

INSERT INTO settlement.channel (name, zh, en, enabled, priority, min_fen, max_fen, cost_bps, payee_kinds) VALUES
    ('wechat', '微信商家转账', 'WeChat merchant transfer', true, 90, 10, 2000000, 10, '{wechat}'),
    ('alipay', '支付宝转账', 'Alipay transfer', true, 80, 10, 5000000, 6, '{alipay}');
