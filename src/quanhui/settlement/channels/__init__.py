"""Payment channels 出款渠道, one gateway file each; all fulfil `quanhui.settlement.gateway.Institution`."""
