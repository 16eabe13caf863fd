"""What ResourceQuotas bound: the names they may use, what a namespace uses, what may still be stored in it. Pure."""
